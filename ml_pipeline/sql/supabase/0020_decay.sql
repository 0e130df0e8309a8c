-- The life of an alert of decay, sums per day, and who watches.

alter table prediction_decay_events
    add column if not exists cause        text not null default 'performance',
    add column if not exists severity     text not null default 'warning'
        check (severity in ('warning', 'critical', 'severe')),
    add column if not exists status       text not null default 'pending'
        check (status in (
            'pending', 'acknowledged', 'auto_retrain_triggered', 'overridden', 'resolved'
        )),
    add column if not exists updated_at   timestamptz not null default now(),
    add column if not exists action       text,
    add column if not exists action_state text
        check (action_state in ('triggered', 'succeeded', 'failed')),
    add column if not exists acted_at     timestamptz,
    add column if not exists attempts     integer not null default 0 check (attempts >= 0),
    add column if not exists fruitless    integer not null default 0 check (fruitless >= 0),
    add column if not exists needs_person boolean not null default false;

update prediction_decay_events set status = 'resolved'
where resolved_at is not null and status not in ('overridden', 'resolved');

-- The promise that a cause is alerted once: the database decides, not the watchdog.
create unique index if not exists prediction_decay_events_one_open
    on prediction_decay_events (model_name, cause)
    where status in ('pending', 'acknowledged', 'auto_retrain_triggered');

-- An UNCERTAIN answer is neither right nor wrong.
do $$
begin
    if not exists (
        select from pg_attrdef
        join pg_attribute on attrelid = adrelid and attnum = adnum
        where adrelid = 'prediction_accuracy_daily'::regclass and attname = 'accuracy'
          and pg_get_expr(adbin, adrelid) like '%uncertain%'
    ) then
        alter table prediction_accuracy_daily drop column accuracy;
        alter table prediction_accuracy_daily add column accuracy double precision
            generated always as (
                correct::double precision / nullif(evaluated - uncertain, 0)
            ) stored;
    end if;
end
$$;

create index if not exists system_events_ours on system_events ((metadata ->> 'event_id'));
create index if not exists learning_events_ours on learning_events ((metadata ->> 'event_id'));

create table if not exists ml_pipeline_leases (
    name     text primary key,
    holder   text not null,
    taken_at timestamptz not null,
    until    timestamptz not null
);

-- Labelled events summed by UTC day and model. The loss is that of the confidence as the chance of
-- being right, clipped to 0.001..0.999, so that one certain error does not drown a day.
create or replace function sum_evaluations_by_day(
    p_model_name text, p_start timestamptz, p_end timestamptz, p_confidence double precision
) returns jsonb
language sql stable
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
    with answers as (
        select known_at::date as day, coalesce(model_id, 'unknown') as model_id, confidence,
               prediction = 'UNCERTAIN' as is_uncertain,
               prediction <> 'UNCERTAIN' and accuracy = 1 as is_right,
               prediction <> 'UNCERTAIN' and confidence is not null as is_scored,
               -ln(case when accuracy = 1 then least(greatest(confidence, 0.001), 0.999)
                        else 1 - least(greatest(confidence, 0.001), 0.999) end) as loss
        from evaluation_log
        where model_name = p_model_name and actual_result is not null
          and known_at >= p_start and known_at < p_end
    ), sums as (
        select day, model_id, count(*) as evaluated,
               count(*) filter (where is_right) as correct,
               count(*) filter (where is_uncertain) as uncertain,
               count(*) filter (where is_scored) as scored,
               count(*) filter (where is_scored and is_right) as scored_correct,
               count(*) filter (where is_scored and confidence > p_confidence) as confident,
               count(*) filter (where is_scored and confidence > p_confidence and not is_right)
                   as confident_errors,
               coalesce(sum(confidence) filter (where is_scored), 0) as confidence_sum,
               coalesce(sum(loss) filter (where is_scored), 0) as loss_sum,
               coalesce(sum(loss * loss) filter (where is_scored), 0) as loss_square_sum
        from answers
        group by day, model_id
    )
    select coalesce(jsonb_agg(to_jsonb(sums) order by day, model_id), '[]') from sums
$$;

-- Write days; later sums replace earlier ones. Returns how many rows were written.
create or replace function keep_daily_accuracy(p_days jsonb, p_now timestamptz) returns integer
language plpgsql
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
declare
    written integer;
begin
    insert into prediction_accuracy_daily as kept
        (model_name, day, model_id, evaluated, correct, uncertain, log_loss, details, updated_at)
    select given.model_name, given.day, given.model_id, given.evaluated, given.correct,
           given.uncertain, given.log_loss, given.details, p_now
    from jsonb_populate_recordset(null::prediction_accuracy_daily, p_days) as given
    order by given.model_name, given.day, given.model_id
    on conflict (model_name, day, model_id) do update
    set evaluated = excluded.evaluated, correct = excluded.correct,
        uncertain = excluded.uncertain, log_loss = excluded.log_loss, details = excluded.details;
    get diagnostics written = row_count;
    return written;
end
$$;

-- Days from that one on, by day and model, as one array.
create or replace function list_daily_accuracy(p_model_name text, p_since date) returns jsonb
language sql stable
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
    select coalesce(jsonb_agg(to_jsonb(kept) order by day, model_id), '[]')
    from prediction_accuracy_daily as kept
    where model_name = p_model_name and day >= p_since
$$;

-- Add an open alert, unless one of its cause is open; return the one that is. An alert that is
-- known by its id is returned as it stands.
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
end
$$;

-- Write an alert anew if it was last changed at `p_seen`; the very same write changes nothing.
-- MLP03 when there is none, MLP04 when somebody else changed it meanwhile.
create or replace function change_decay_alert(p_alert jsonb, p_seen timestamptz) returns jsonb
language plpgsql
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
declare
    given prediction_decay_events :=
        jsonb_populate_record(null::prediction_decay_events, p_alert);
    known prediction_decay_events;
begin
    select * into known from prediction_decay_events where id = given.id for update;
    if not found then
        raise exception using errcode = 'MLP03',
            message = format('There is no %s in prediction_decay_events.', given.id);
    end if;
    if known.updated_at <> p_seen then
        if known.updated_at = given.updated_at and ml_pipeline_differences(
            to_jsonb(known), to_jsonb(given),
            array['status', 'severity', 'action_state', 'attempts', 'request_id', 'message']
        ) is null then
            return to_jsonb(known);
        end if;
        raise exception using errcode = 'MLP04',
            message = format(
                'Alert %s was changed meanwhile and is %s now.', known.id, known.status
            );
    end if;
    update prediction_decay_events as alert
    set updated_at = given.updated_at, metric = given.metric, severity = given.severity,
        status = given.status, baseline = given.baseline, recent = given.recent,
        threshold = given.threshold, baseline_rows = given.baseline_rows,
        recent_rows = given.recent_rows, window_start = given.window_start,
        window_end = given.window_end, message = given.message, action = given.action,
        action_state = given.action_state, acted_at = given.acted_at, attempts = given.attempts,
        fruitless = given.fruitless, needs_person = given.needs_person,
        request_id = given.request_id, run_id = given.run_id, resolved_at = given.resolved_at,
        details = given.details
    where alert.id = given.id
    returning alert.* into known;
    return to_jsonb(known);
end
$$;

-- Alerts, newest first, as one array.
create or replace function list_decay_alerts(
    p_model_name text, p_open_only boolean, p_limit integer
) returns jsonb
language sql stable
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
    select coalesce(jsonb_agg(to_jsonb(alert)), '[]')
    from (
        select * from prediction_decay_events
        where model_name = p_model_name
          and (
              not p_open_only or status in ('pending', 'acknowledged', 'auto_retrain_triggered')
          )
        order by detected_at desc, id desc
        limit p_limit
    ) as alert
$$;

-- Keep what happened, once by its id, in `system_events`, else in `learning_events`; return where.
-- Tables from before may number their rows otherwise, so the id stands in the metadata.
create or replace function record_system_event(p_event jsonb) returns jsonb
language plpgsql
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
declare
    event_id text := p_event ->> 'event_id';
    at timestamptz := (p_event ->> 'at')::timestamptz;
    facts jsonb := coalesce(p_event -> 'metadata', '{}')
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
        return '[{"table": "system_events"}]';
    end if;
    insert into learning_events (event_type, created_at, model_name, message, metadata)
    select p_event ->> 'event_type', at, p_event ->> 'model_name', p_event ->> 'message', facts
    where not exists (
        select from learning_events where metadata ->> 'event_id' = p_event ->> 'event_id'
    );
    return '[{"table": "learning_events"}]';
end
$$;

-- The latest learning cycles that have a rate, newest first, as one array.
create or replace function list_learning_cycles(p_model_name text, p_limit integer) returns jsonb
language sql stable
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
    select coalesce(jsonb_agg(to_jsonb(cycle)), '[]')
    from (
        select "timestamp" as at, accept_rate, total, metadata ->> 'model_id' as model_id
        from learning_stats
        where model_name = p_model_name and accept_rate is not null and "timestamp" is not null
        order by "timestamp" desc
        limit p_limit
    ) as cycle
$$;

-- Take or renew a lease; false when another holder's has not run out.
create or replace function take_lease(
    p_name text, p_holder text, p_now timestamptz, p_until timestamptz
) returns boolean
language plpgsql
set search_path = pg_catalog, public, pg_temp
as $$
begin
    insert into ml_pipeline_leases as lease (name, holder, taken_at, until)
    values (p_name, p_holder, p_now, p_until)
    on conflict (name) do update
    set holder = excluded.holder, until = excluded.until,
        taken_at = case when lease.holder = excluded.holder then lease.taken_at
                        else excluded.taken_at end
    where lease.holder = excluded.holder or lease.until <= p_now;
    return found;
end
$$;

-- Give the lease back, if it is the holder's; returns whether it was.
create or replace function drop_lease(p_name text, p_holder text) returns boolean
language plpgsql
set search_path = pg_catalog, public, pg_temp
as $$
begin
    delete from ml_pipeline_leases where name = p_name and holder = p_holder;
    return found;
end
$$;

select ml_pipeline_lock(
    'ml_pipeline_leases', 'sum_evaluations_by_day', 'keep_daily_accuracy', 'list_daily_accuracy',
    'open_decay_alert', 'change_decay_alert', 'list_decay_alerts', 'record_system_event',
    'list_learning_cycles', 'take_lease', 'drop_lease'
);

insert into ml_pipeline_schema_version (version, name) values (20, 'decay')
on conflict (version) do nothing;

notify pgrst, 'reload schema';
