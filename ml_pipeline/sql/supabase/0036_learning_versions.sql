-- Which version a learning cycle is about; applications wrote it into the metadata before.
alter table learning_stats add column if not exists model_id text;

update learning_stats set model_id = metadata ->> 'model_id'
where model_id is null and metadata ->> 'model_id' is not null;

-- The latest learning cycles that have a rate, newest first, as one array: those of the versions
-- (null: of all) and those that name none.
create or replace function list_learning_cycles_of(
    p_model_name text, p_model_ids text[], p_limit integer
) returns jsonb
language sql stable
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
    select coalesce(jsonb_agg(to_jsonb(cycle)), '[]')
    from (
        select "timestamp" as at, accept_rate, total, version as model_id
        from learning_stats
        cross join lateral (select coalesce(model_id, metadata ->> 'model_id')) as named (version)
        where model_name = p_model_name and accept_rate is not null and "timestamp" is not null
          and (p_model_ids is null or version is null or version = any (p_model_ids))
        order by "timestamp" desc
        limit p_limit
    ) as cycle
$$;

select ml_pipeline_lock('list_learning_cycles_of');

insert into ml_pipeline_schema_version (version, name) values (36, 'learning_versions')
on conflict (version) do nothing;

notify pgrst, 'reload schema';
