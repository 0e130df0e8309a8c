-- What plpgsql_check and the advisors of Supabase find: casts that only assignment makes, ends
-- without a return, foreign keys that a delete would have to look for row by row.

create index if not exists model_promotion_events_to_model
    on model_promotion_events (model_name, to_model_id);

create index if not exists model_promotion_events_from_model
    on model_promotion_events (model_name, from_model_id);

-- As in 0007.
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
    return null; -- never reached
end
$$;

-- As in 0008.
create or replace function release_stale_retraining_requests(
    p_model_name text, p_now timestamptz, p_max_attempts integer
) returns jsonb
language plpgsql
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
declare
    known model_retraining_requests;
    changed jsonb := '[]'::jsonb;
begin
    for known in
        select * from model_retraining_requests
        where model_name = p_model_name and status = 'processing' and lease_until <= p_now
        order by priority_rank, created_at, id
        for update
    loop
        if known.attempts < p_max_attempts then
            update model_retraining_requests as request
            set status = 'pending', retraining_run_id = null, claimed_at = null, lease_until = null
            where request.id = known.id
            returning request.* into known;
        else
            update model_retraining_requests as request
            set status = 'failed', processed_at = p_now, lease_until = null,
                error_message = format(
                    'given up after %s attempts: run %s did not finish it',
                    request.attempts, request.retraining_run_id
                )
            where request.id = known.id
            returning request.* into known;
        end if;
        changed := changed || to_jsonb(known);
    end loop;
    return changed;
end
$$;

-- As in 0020.
create or replace function open_decay_alert(p_alert jsonb) returns jsonb
language plpgsql
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
declare
    given prediction_decay_events :=
        jsonb_populate_record(null::prediction_decay_events, p_alert);
    known prediction_decay_events;
begin
    if given.status not in ('pending', 'acknowledged', 'auto_retrain_triggered') then
        raise exception using errcode = 'MLP04',
            message = format('Alert %s is %s; an alert starts open.', given.id, given.status);
    end if;
    loop
        select * into known from prediction_decay_events
        where id = given.id
           or model_name = given.model_name and cause = given.cause
              and status in ('pending', 'acknowledged', 'auto_retrain_triggered')
        order by id = given.id desc
        limit 1;
        if found then
            return to_jsonb(known);
        end if;
        insert into prediction_decay_events as alert (
            id, model_name, model_id, detected_at, updated_at, cause, metric, severity, status,
            baseline, recent, threshold, baseline_rows, recent_rows, window_start, window_end,
            message, action, action_state, acted_at, attempts, fruitless, needs_person,
            request_id, run_id, resolved_at, details
        )
        values (
            given.id, given.model_name, given.model_id, given.detected_at, given.updated_at,
            given.cause, given.metric, given.severity, given.status, given.baseline, given.recent,
            given.threshold, given.baseline_rows, given.recent_rows, given.window_start,
            given.window_end, given.message, given.action, given.action_state, given.acted_at,
            given.attempts, given.fruitless, given.needs_person, given.request_id, given.run_id,
            given.resolved_at, given.details
        )
        on conflict do nothing
        returning alert.* into known;
        if found then
            return to_jsonb(known);
        end if;
    end loop;
    return null; -- never reached
end
$$;

-- As in 0020.
create or replace function record_system_event(p_event jsonb) returns jsonb
language plpgsql
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
declare
    event_id text := p_event ->> 'event_id';
    at timestamptz := (p_event ->> 'at')::timestamptz;
    facts jsonb := coalesce(p_event -> 'metadata', '{}'::jsonb)
        || jsonb_build_object('event_id', event_id);
begin
    if event_id is null or at is null then
        raise exception using errcode = 'MLP04', message = 'An event needs an id and a time.';
    end if;
    if to_regclass('public.system_events') is not null then
        insert into system_events (event_type, "timestamp", model_name, message, metadata)
        select p_event ->> 'event_type', at, p_event ->> 'model_name', p_event ->> 'message', facts
        where not exists (
            select from system_events where metadata ->> 'event_id' = p_event ->> 'event_id'
        );
        return '[{"table": "system_events"}]'::jsonb;
    end if;
    insert into learning_events (event_type, created_at, model_name, message, metadata)
    select p_event ->> 'event_type', at, p_event ->> 'model_name', p_event ->> 'message', facts
    where not exists (
        select from learning_events where metadata ->> 'event_id' = p_event ->> 'event_id'
    );
    return '[{"table": "learning_events"}]'::jsonb;
end
$$;

insert into ml_pipeline_schema_version (version, name) values (34, 'checked_functions')
on conflict (version) do nothing;

notify pgrst, 'reload schema';
