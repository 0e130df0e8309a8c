-- Models whose bytes were given up; their rows and their history stay.

alter table model_metadata add column if not exists pruned_at timestamptz;

-- Mark a model as pruned and return its row; the same again changes nothing. MLP03 when there is
-- none, MLP04 for the champion.
create or replace function prune_model(p_model_name text, p_model_id text, p_now timestamptz)
returns jsonb
language plpgsql
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
declare
    known model_metadata;
begin
    select * into known from model_metadata
    where model_name = p_model_name and model_id = p_model_id
    for update;
    if not found then
        raise exception using errcode = 'MLP03',
            message = format('There is no %s / %s in model_metadata.', p_model_name, p_model_id);
    end if;
    if known.state = 'champion' then
        raise exception using errcode = 'MLP04',
            message = format('%s serves and is not pruned.', p_model_id);
    end if;
    update model_metadata as model set pruned_at = coalesce(model.pruned_at, p_now)
    where model.model_name = p_model_name and model.model_id = p_model_id
    returning model.* into known;
    return to_jsonb(known);
end
$$;

-- Whoever makes a model champion, one without bytes cannot serve.
create or replace function ml_pipeline_check_champion() returns trigger
language plpgsql
set search_path = pg_catalog, public, pg_temp
as $$
begin
    raise exception using errcode = 'MLP05',
        message = format('%s was pruned: its bytes are gone.', new.model_id);
end
$$;

create or replace trigger model_metadata_champion
    before update on model_metadata
    for each row when (new.state = 'champion' and new.pruned_at is not null)
    execute function ml_pipeline_check_champion();

select ml_pipeline_lock('prune_model', 'ml_pipeline_check_champion');

insert into ml_pipeline_schema_version (version, name) values (21, 'pruning')
on conflict (version) do nothing;

notify pgrst, 'reload schema';
