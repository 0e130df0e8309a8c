-- What the client does with runs. Rows travel as JSON objects with the columns' names; the caller
-- makes the ids and says what time it is.

-- What a run is made of; the rest of the row is the database's.
create or replace function ml_pipeline_run_columns() returns text[]
language sql immutable
set search_path = pg_catalog, public, pg_temp
as $$
    select array[
        'id', 'model_name', 'source', 'status', 'started_at', 'heartbeat_at', 'completed_at',
        'fine_tune_flag', 'dataset_size', 'training_rows', 'outcome', 'outcome_reason',
        'error_message', 'metrics', 'details', 'champion_id', 'challenger_id', 'training_digest',
        'holdout_digest', 'config_digest', 'git_sha', 'log_url', 'triggered_by'
    ]
$$;

create or replace function ml_pipeline_given_run(p_run jsonb) returns model_retraining_runs
language plpgsql stable
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
declare
    given model_retraining_runs := jsonb_populate_record(null::model_retraining_runs, p_run);
begin
    given.heartbeat_at := coalesce(given.heartbeat_at, given.started_at);
    given.fine_tune_flag := coalesce(given.fine_tune_flag, true);
    given.dataset_size := coalesce(given.dataset_size, 0);
    given.training_rows := coalesce(given.training_rows, 0);
    given.metrics := coalesce(given.metrics, '{}');
    given.details := coalesce(given.details, '{}');
    return given;
end
$$;

-- Insert a running row; the same run again changes nothing. MLP01 when another run of the model
-- is running, MLP02 when this one is finished, MLP04 for a known id with other content.
create or replace function start_retraining_run(p_run jsonb) returns jsonb
language plpgsql
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
declare
    given model_retraining_runs := ml_pipeline_given_run(p_run);
    known model_retraining_runs;
    differing text;
begin
    if given.status is distinct from 'running' then
        raise exception using errcode = 'MLP04',
            message = format('Run %s is %s; a run starts as running.', given.id, given.status);
    end if;
    loop
        insert into model_retraining_runs as run (
            id, model_name, source, status, started_at, heartbeat_at, completed_at, fine_tune_flag,
            dataset_size, training_rows, outcome, outcome_reason, error_message, metrics, details,
            champion_id, challenger_id, training_digest, holdout_digest, config_digest, git_sha,
            log_url, triggered_by
        )
        values (
            given.id, given.model_name, given.source, given.status, given.started_at,
            given.heartbeat_at, given.completed_at, given.fine_tune_flag, given.dataset_size,
            given.training_rows, given.outcome, given.outcome_reason, given.error_message,
            given.metrics, given.details, given.champion_id, given.challenger_id,
            given.training_digest, given.holdout_digest, given.config_digest, given.git_sha,
            given.log_url, given.triggered_by
        )
        on conflict do nothing
        returning run.* into known;
        if found then
            return to_jsonb(known);
        end if;

        select * into known from model_retraining_runs where id = given.id;
        if found then
            if known.status in ('completed', 'failed') then
                raise exception using errcode = 'MLP02',
                    message = format('Run %s is %s already.', known.id, known.status);
            end if;
            differing := ml_pipeline_differences(
                to_jsonb(known), to_jsonb(given),
                array_remove(ml_pipeline_run_columns(), 'heartbeat_at')
            );
            if differing is not null then
                raise exception using errcode = 'MLP04',
                    message = format('Run %s stands there with another %s.', known.id, differing);
            end if;
            return to_jsonb(known);
        end if;

        select * into known from model_retraining_runs
        where model_name = given.model_name and status = 'running';
        if found then
            raise exception using errcode = 'MLP01',
                message = format(
                    'Run %s of %s is running since %s, last heard of at %s.',
                    known.id, known.model_name, known.started_at, known.heartbeat_at
                ),
                detail = to_jsonb(known)::text;
        end if;
        -- The run in the way ended between the two looks: try again.
    end loop;
end
$$;

-- Say that the run is alive; the heartbeat never moves back. MLP02, MLP03.
create or replace function heartbeat_retraining_run(p_run_id uuid, p_now timestamptz) returns jsonb
language plpgsql
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
declare
    known model_retraining_runs;
begin
    update model_retraining_runs set heartbeat_at = greatest(heartbeat_at, p_now)
    where id = p_run_id and status not in ('completed', 'failed')
    returning * into known;
    if found then
        return to_jsonb(known);
    end if;
    select * into known from model_retraining_runs where id = p_run_id;
    if not found then
        raise exception using errcode = 'MLP03',
            message = format('There is no %s in model_retraining_runs.', p_run_id);
    end if;
    raise exception using errcode = 'MLP02',
        message = format('Run %s is %s: %s.', p_run_id, known.status, known.outcome_reason);
end
$$;

-- Close the row with everything it came to; the very same again changes nothing. MLP02 when it is
-- closed with another result, MLP03, MLP04 when the run is another than the one that was started.
create or replace function finish_retraining_run(p_run jsonb) returns jsonb
language plpgsql
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
declare
    given model_retraining_runs := ml_pipeline_given_run(p_run);
    known model_retraining_runs;
    differing text;
begin
    if given.status is null or given.status not in ('completed', 'failed') then
        raise exception using errcode = 'MLP04',
            message = format(
                'Run %s is %s; a run ends as completed or failed.', given.id, given.status
            );
    end if;
    select * into known from model_retraining_runs where id = given.id for update;
    if not found then
        raise exception using errcode = 'MLP03',
            message = format('There is no %s in model_retraining_runs.', given.id);
    end if;
    if known.status in ('completed', 'failed') then
        differing := ml_pipeline_differences(
            to_jsonb(known), to_jsonb(given), ml_pipeline_run_columns()
        );
        if differing is not null then
            raise exception using errcode = 'MLP02',
                message = format(
                    'Run %s is %s already, with another %s.', known.id, known.status, differing
                );
        end if;
        return to_jsonb(known);
    end if;
    differing := ml_pipeline_differences(
        to_jsonb(known), to_jsonb(given), array['model_name', 'source', 'started_at']
    );
    if differing is not null then
        raise exception using errcode = 'MLP04',
            message = format('Run %s was started with another %s.', known.id, differing);
    end if;
    update model_retraining_runs as run
    set status = given.status, heartbeat_at = given.heartbeat_at,
        completed_at = given.completed_at, fine_tune_flag = given.fine_tune_flag,
        dataset_size = given.dataset_size, training_rows = given.training_rows,
        outcome = given.outcome, outcome_reason = given.outcome_reason,
        error_message = given.error_message, metrics = given.metrics, details = given.details,
        champion_id = given.champion_id, challenger_id = given.challenger_id,
        training_digest = given.training_digest, holdout_digest = given.holdout_digest,
        config_digest = given.config_digest, git_sha = given.git_sha, log_url = given.log_url,
        triggered_by = given.triggered_by
    where run.id = given.id
    returning run.* into known;
    return to_jsonb(known);
end
$$;

-- Close running rows that were last heard of before `p_heard_before` as failed; return them. A
-- heartbeat as far in the future was made by a clock that was wrong, and would block for as long.
create or replace function fail_stale_retraining_runs(
    p_model_name text, p_now timestamptz, p_heard_before timestamptz
) returns jsonb
language sql
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
    with silent as (
        select id as silent_id,
               case when heartbeat_at < p_heard_before
                    then format('no heartbeat since %s; closed at %s', heartbeat_at, p_now)
                    else format(
                        'its last heartbeat %s lies ahead of the clock; closed at %s',
                        heartbeat_at, p_now
                    )
               end as reason
        from model_retraining_runs
        where model_name = p_model_name and status = 'running'
          and (heartbeat_at < p_heard_before or heartbeat_at > p_now + (p_now - p_heard_before))
        for update
    ), closed as (
        update model_retraining_runs
        set status = 'failed', outcome = 'failed', completed_at = p_now, outcome_reason = reason,
            error_message = reason
        from silent
        where id = silent_id
        returning model_retraining_runs.*
    )
    select coalesce(jsonb_agg(to_jsonb(closed)), '[]') from closed
$$;

-- The latest runs, newest first, as one array.
create or replace function list_retraining_runs(p_model_name text, p_limit integer) returns jsonb
language sql stable
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
    select coalesce(jsonb_agg(to_jsonb(run)), '[]')
    from (
        select * from model_retraining_runs where model_name = p_model_name
        order by started_at desc, id desc
        limit p_limit
    ) as run
$$;

select ml_pipeline_lock(
    'ml_pipeline_run_columns', 'ml_pipeline_given_run', 'start_retraining_run',
    'heartbeat_retraining_run', 'finish_retraining_run', 'fail_stale_retraining_runs',
    'list_retraining_runs'
);

insert into ml_pipeline_schema_version (version, name) values (7, 'run_functions')
on conflict (version) do nothing;

notify pgrst, 'reload schema';
