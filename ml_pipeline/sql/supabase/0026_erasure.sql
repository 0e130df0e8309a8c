-- A person's events are erased, and do not come back.

-- Only a hash of the id is kept.
create table if not exists evaluation_log_erased (
    event_hash text primary key check (length(event_hash) = 64),
    model_name text not null,
    erased_at  timestamptz not null default now()
);

comment on table evaluation_log_erased is
    'ml_pipeline: hashes of the ids of erased events, so that they do not come back';

-- Whoever inserts an erased event inserts nothing. With the owner's rights: an application that
-- may insert events may not read here.
create or replace function ml_pipeline_skip_erased() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select from public.evaluation_log_erased
        where event_hash = encode(sha256(convert_to(lower(new.event_id::text), 'UTF8')), 'hex')
    ) then
        return null;
    end if;
    return new;
end
$$;

create or replace trigger evaluation_log_erased
    before insert on evaluation_log
    for each row execute function ml_pipeline_skip_erased();

-- Erase events by their ids and their matches', the labels of the same ids, and keep hashes, also
-- of ids that are not there: another machine may still send them. Returns how many rows of which
-- table went; with `p_dry_run` how many would go. The days of labelled ones are learned again.
create or replace function erase_evaluation_events(
    p_model_name text, p_event_ids text[], p_match_ids text[], p_dry_run boolean default false
) returns jsonb
language plpgsql
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
declare
    events uuid[];
    labels uuid[];
begin
    select coalesce(array_agg(event_id order by event_id), '{}') into events
    from evaluation_log
    where model_name = p_model_name
      and (event_id::text = any (p_event_ids) or match_id = any (p_match_ids));
    select coalesce(array_agg(id order by id), '{}') into labels
    from ml_data
    where model_name = p_model_name
      and (id::text = any (p_event_ids || p_match_ids)
           or metadata ->> 'event_id' = any (p_event_ids)
           or metadata ->> 'match_id' = any (p_match_ids));
    if not p_dry_run then
        insert into evaluation_log_erased (event_hash, model_name)
        select encode(sha256(convert_to(lower(id), 'UTF8')), 'hex'), p_model_name
        from unnest(p_event_ids || events::text[]) as id
        on conflict do nothing;
        insert into evaluation_log_changes (model_name, day, kind)
        select model_name, known_at::date, 'erased' from evaluation_log
        where event_id = any (events) and actual_result is not null;
        delete from evaluation_log where event_id = any (events);
        delete from ml_data where id = any (labels);
    end if;
    return jsonb_build_object(
        'evaluation_log', cardinality(events), 'ml_data', cardinality(labels)
    );
end
$$;

create or replace function list_erased_events() returns jsonb
language sql stable
set search_path = pg_catalog, public, pg_temp
as $$
    select coalesce(jsonb_agg(event_hash order by event_hash), '[]') from evaluation_log_erased
$$;

-- The runs in whose rows one of the ids stands somewhere, as an array of their ids.
create or replace function list_runs_that_name(p_model_name text, p_ids text[]) returns jsonb
language sql stable
set search_path = pg_catalog, public, pg_temp
as $$
    select coalesce(jsonb_agg(id order by id), '[]') from model_retraining_runs as run
    where model_name = p_model_name and exists (
        select from unnest(p_ids) as name
        where strpos(concat_ws(' ', run.details::text, run.error_message, run.outcome_reason),
                     name) > 0
    )
$$;

-- Write what a run's row says anew, without the rows that were erased; how many rows it changed.
create or replace function redact_retraining_run(
    p_run_id uuid, p_details jsonb, p_error_message text, p_outcome_reason text
) returns integer
language sql
set search_path = pg_catalog, public, pg_temp
as $$
    with changed as (
        update model_retraining_runs
        set details = p_details, error_message = p_error_message, outcome_reason = p_outcome_reason
        where id = p_run_id
        returning id
    )
    select count(*)::integer from changed
$$;

select ml_pipeline_lock(
    'evaluation_log_erased', 'ml_pipeline_skip_erased', 'erase_evaluation_events',
    'list_erased_events', 'list_runs_that_name', 'redact_retraining_run'
);

insert into ml_pipeline_schema_version (version, name) values (26, 'erasure')
on conflict (version) do nothing;

notify pgrst, 'reload schema';
