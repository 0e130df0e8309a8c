-- The ground the other files stand on: the schema's version, and what the migrations share.
--
-- Every file may be run again at any time; run them in order, each in one transaction (a script
-- sent as one query is one). They run on PostgreSQL 15 and newer, on Supabase and on a plain
-- server, where roles and schemas that Supabase brings may be missing.
--
-- Tables that are there already are upgraded where they stand: columns are added, values that the
-- package needs are filled in, rows are kept.
--
-- Errors that the functions raise on purpose, by SQLSTATE:
--   MLP01  another run of the model is running
--   MLP02  the row is finished, or no longer in the state that the call needs
--   MLP03  there is no such row
--   MLP04  refused: other content under a known id, or a call that says something impossible
--   MLP05  promotion refused: another champion serves by now
--   MLP06  too many open requests
-- Everything else keeps PostgreSQL's own code (23502, 23514, 22P02, 42501 …).

create table if not exists ml_pipeline_schema_version (
    version    integer primary key,
    name       text not null,
    applied_at timestamptz not null default now()
);
alter table ml_pipeline_schema_version enable row level security;

-- What signed-in users may have open in the queue; change the numbers here, no restart needed.
create table if not exists ml_pipeline_limits (
    name  text primary key,
    value integer not null check (value >= 0)
);
alter table ml_pipeline_limits enable row level security;

insert into ml_pipeline_limits (name, value)
values ('open_requests_per_user', 3), ('open_requests_total', 50)
on conflict (name) do nothing;

-- The signed-in user, as `auth.uid()` says it, also where there is no schema `auth`.
create or replace function ml_pipeline_caller() returns uuid
language sql stable
set search_path = pg_catalog, public, pg_temp
as $$
    select coalesce(
        nullif(current_setting('request.jwt.claim.sub', true), ''),
        nullif(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub', '')
    )::uuid
$$;

create or replace function ml_pipeline_touch() returns trigger
language plpgsql
set search_path = pg_catalog, public, pg_temp
as $$
begin
    new.updated_at := now();
    return new;
end
$$;

-- The names among `p_columns` whose values differ, null when none does.
create or replace function ml_pipeline_differences(
    p_known jsonb, p_given jsonb, p_columns text[]
) returns text
language sql immutable
set search_path = pg_catalog, public, pg_temp
as $$
    select string_agg(name, ', ' order by name)
    from unnest(p_columns) as name
    where coalesce(p_known -> name, 'null') <> coalesce(p_given -> name, 'null')
$$;

-- Default privileges on Supabase give every new table and function to everyone: take them back.
create or replace function ml_pipeline_lock(variadic p_names text[]) returns void
language plpgsql
set search_path = pg_catalog, public, pg_temp
as $$
declare
    item record;
    grantee text;
begin
    for item in
        select oid::regclass::text as name, 'table' as kind
        from pg_class
        where relnamespace = 'public'::regnamespace and relname = any (p_names)
          and relkind in ('r', 'p')
        union all
        select oid::regprocedure::text, 'function'
        from pg_proc
        where pronamespace = 'public'::regnamespace and proname = any (p_names)
    loop
        if item.kind = 'table' then
            execute format('alter table %s enable row level security', item.name);
        end if;
        execute format('revoke all on %s %s from public', item.kind, item.name);
        for grantee in
            select rolname from pg_roles where rolname in ('anon', 'authenticated')
        loop
            execute format('revoke all on %s %s from %I', item.kind, item.name, grantee);
        end loop;
        if exists (select from pg_roles where rolname = 'service_role') then
            execute format('grant all on %s %s to service_role', item.kind, item.name);
        end if;
    end loop;
end
$$;

-- Bring a column that was made elsewhere to our type. Times without a zone are UTC.
create or replace function ml_pipeline_retype(p_table text, p_type text, variadic p_columns text[])
returns void
language plpgsql
set search_path = pg_catalog, public, pg_temp
as $$
declare
    item record;
begin
    for item in
        select attname as name, format_type(atttypid, atttypmod) as type
        from pg_attribute
        where attrelid = p_table::regclass and attname = any (p_columns)
          and format_type(atttypid, atttypmod) <> p_type
    loop
        execute format('alter table %I alter column %I drop default', p_table, item.name);
        execute format(
            'alter table %I alter column %I type %s using %s', p_table, item.name, p_type,
            case when item.type like 'timestamp%without time zone'
                 then format('%I at time zone ''UTC''', item.name)
                 else format('%I::text::%s', item.name, p_type) end
        );
    end loop;
end
$$;

-- Add a check once. The checks on `p_replaces` alone go first, whatever they are called. Rows
-- from before that break it are kept and named in a warning.
create or replace function ml_pipeline_check(
    p_table text, p_name text, p_expression text, p_replaces text default null
) returns void
language plpgsql
set search_path = pg_catalog, public, pg_temp
as $$
declare
    narrow text;
begin
    if exists (
        select from pg_constraint where conrelid = p_table::regclass and conname = p_name
    ) then
        return;
    end if;
    for narrow in
        select conname
        from pg_constraint
        join pg_attribute on attrelid = conrelid and array[attnum] = conkey
        where conrelid = p_table::regclass and contype = 'c' and attname = p_replaces
    loop
        execute format('alter table %I drop constraint %I', p_table, narrow);
    end loop;
    execute format(
        'alter table %I add constraint %I check (%s) not valid', p_table, p_name, p_expression
    );
    begin
        execute format('alter table %I validate constraint %I', p_table, p_name);
    exception when check_violation then
        raise warning '% holds rows from before that break %', p_table, p_name;
    end;
end
$$;

-- Columns of a table made elsewhere that we know nothing of must not stop our inserts.
create or replace function ml_pipeline_relax(p_table text, variadic p_ours text[]) returns void
language plpgsql
set search_path = pg_catalog, public, pg_temp
as $$
declare
    name text;
begin
    for name in
        select attname
        from pg_attribute
        where attrelid = p_table::regclass and attnum > 0 and not attisdropped
          and attnotnull and not atthasdef and attidentity = '' and attname <> all (p_ours)
          and not exists (
              select from pg_index where indrelid = attrelid and indisprimary
              and attnum = any (indkey::int2[])
          )
    loop
        execute format('alter table %I alter column %I drop not null', p_table, name);
    end loop;
end
$$;

-- Make a unique index when none has exactly these columns as its key.
create or replace function ml_pipeline_unique(p_table text, p_name text, variadic p_columns text[])
returns void
language plpgsql
set search_path = pg_catalog, public, pg_temp
as $$
begin
    if not exists (
        select from pg_index
        where indrelid = p_table::regclass and indisunique and indisvalid and indpred is null
          and (
              select array_agg(attname::text order by attname)
              from pg_attribute
              where attrelid = indrelid and attnum = any (indkey::int2[])
          ) = (select array_agg(name order by name) from unnest(p_columns) as name)
    ) then
        execute format(
            'create unique index %I on %I (%s)', p_name, p_table,
            (select string_agg(format('%I', name), ', ') from unnest(p_columns) as name)
        );
    end if;
end
$$;

-- The newest file that was applied. A doctor compares it with the package's own.
create or replace function ml_pipeline_schema() returns integer
language sql stable
set search_path = pg_catalog, public, pg_temp
as $$
    select max(version) from ml_pipeline_schema_version
$$;

select ml_pipeline_lock(
    'ml_pipeline_schema_version', 'ml_pipeline_limits', 'ml_pipeline_schema', 'ml_pipeline_caller',
    'ml_pipeline_touch', 'ml_pipeline_differences', 'ml_pipeline_lock', 'ml_pipeline_retype',
    'ml_pipeline_check', 'ml_pipeline_relax', 'ml_pipeline_unique'
);

insert into ml_pipeline_schema_version (version, name) values (1, 'ground')
on conflict (version) do nothing;

notify pgrst, 'reload schema';
