-- What a doctor looks at: facts about access, indexes and buckets as the database itself knows
-- them. It reads the catalogue with the caller's own rights and judges nothing.

-- {"now", "versions", "tables", "functions", "triggers", "indexes", "policies", "buckets"}.
-- A privilege that is held on some columns only ends in " some columns"; `buckets` is null where
-- there is no schema storage.
create or replace function ml_pipeline_doctor() returns jsonb
language plpgsql stable
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
declare
    ours constant text[] := array[
        'ml_pipeline_schema_version', 'ml_pipeline_limits', 'evaluation_log',
        'model_retraining_runs', 'model_retraining_requests', 'model_metadata',
        'model_promotion_events', 'prediction_accuracy_daily', 'prediction_decay_events',
        'system_events', 'learning_events', 'learning_stats', 'ml_data', 'ml_pipeline_leases'
    ];
    callers constant text[] := array['anon', 'authenticated', 'service_role'];
    facts jsonb := jsonb_build_object('now', clock_timestamp());
    found jsonb;
begin
    if to_regclass('public.ml_pipeline_schema_version') is not null then
        select jsonb_agg(version order by version) into found from ml_pipeline_schema_version;
    end if;
    facts := facts || jsonb_build_object('versions', coalesce(found, '[]'));

    select jsonb_agg(jsonb_build_object(
        'name', relname, 'rls', relrowsecurity, 'held', (
            select coalesce(jsonb_object_agg(role.rolname, held.privileges), '{}')
            from pg_roles as role
            cross join lateral (
                select jsonb_agg(case when has_table_privilege(role.oid, class.oid, privilege)
                                      then privilege else privilege || ' some columns' end)
                           as privileges
                from unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) as privilege
                where has_table_privilege(role.oid, class.oid, privilege)
                   or privilege not in ('DELETE', 'TRUNCATE')
                      and has_any_column_privilege(role.oid, class.oid, privilege)
            ) as held
            where role.rolname = any (callers)
        )
    ) order by relname) into found
    from pg_class as class
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and relname = any (ours);
    facts := facts || jsonb_build_object('tables', coalesce(found, '[]'));

    select jsonb_agg(jsonb_build_object('name', proname, 'callers', (
        select coalesce(jsonb_agg(rolname order by rolname), '[]') from pg_roles
        where rolname = any (callers) and has_function_privilege(pg_roles.oid, proc.oid, 'EXECUTE')
    )) order by proname) into found
    from pg_proc as proc
    where pronamespace = 'public'::regnamespace and prokind = 'f'
      and not exists (
          select from pg_depend
          where classid = 'pg_proc'::regclass and objid = proc.oid and deptype = 'e'
      );
    facts := facts || jsonb_build_object('functions', coalesce(found, '[]'));

    select jsonb_agg(tgname order by tgname) into found
    from pg_trigger
    join pg_class as class on class.oid = tgrelid
    where relnamespace = 'public'::regnamespace and relname = any (ours)
      and not tgisinternal and tgenabled in ('O', 'A');
    facts := facts || jsonb_build_object('triggers', coalesce(found, '[]'));

    select jsonb_agg(jsonb_build_object(
        'name', item.relname, 'table', class.relname, 'unique', indisunique,
        'valid', indisvalid and indisready, 'partial', indpred is not null, 'columns', (
            select jsonb_agg(attname order by attname) from pg_attribute
            where attrelid = indrelid and attnum = any (indkey::int2[])
        )
    ) order by item.relname) into found
    from pg_index
    join pg_class as item on item.oid = indexrelid
    join pg_class as class on class.oid = indrelid
    where class.relnamespace = 'public'::regnamespace and class.relname = any (ours);
    facts := facts || jsonb_build_object('indexes', coalesce(found, '[]'));

    select jsonb_agg(jsonb_build_object(
        'schema', schemaname, 'table', tablename, 'name', policyname, 'roles', roles,
        'command', cmd, 'permissive', permissive = 'PERMISSIVE', 'using', qual,
        'check', with_check
    ) order by schemaname, tablename, policyname) into found
    from pg_policies
    where schemaname = 'public' and tablename = any (ours)
       or schemaname = 'storage' and tablename = 'objects';
    facts := facts || jsonb_build_object('policies', coalesce(found, '[]'));

    found := null;
    if to_regclass('storage.buckets') is not null then
        select coalesce(jsonb_agg(jsonb_build_object('id', id, 'public', public)), '[]')
        into found
        from storage.buckets
        where id in ('ml-models', 'model-artifacts');
    end if;
    return facts || jsonb_build_object('buckets', found);
end
$$;

-- As many rows as asked for: what arrives of them is the server's cap on an answer's rows.
create or replace function ml_pipeline_series(p_rows integer) returns setof integer
language sql immutable
set search_path = pg_catalog, public, pg_temp
as $$
    select generate_series(1, p_rows)
$$;

select ml_pipeline_lock('ml_pipeline_doctor', 'ml_pipeline_series');

insert into ml_pipeline_schema_version (version, name) values (12, 'doctor')
on conflict (version) do nothing;

notify pgrst, 'reload schema';
