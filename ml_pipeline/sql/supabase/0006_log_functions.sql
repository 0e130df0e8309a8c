-- What the client does with evaluation events. Times travel as ISO 8601 with a zone.

-- Events as they are given, in their order: an array of objects with the columns' names, in which
-- `features` and `metadata` may be JSON or JSON text.
create or replace function ml_pipeline_given_events(p_events jsonb)
returns table (
    n bigint, event_id uuid, "timestamp" timestamptz, event_type text, model_name text,
    model_id text, match_id text, prediction text, confidence double precision, features jsonb,
    metadata jsonb, actual_result text, evaluated_at timestamptz
)
language sql stable
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
    select n, event_id, "timestamp", coalesce(event_type, 'prediction'), model_name,
           model_id, match_id, prediction, confidence,
           case jsonb_typeof(features) when 'string' then (features #>> '{}')::jsonb
                                       when 'null' then null else features end,
           case jsonb_typeof(metadata) when 'string' then (metadata #>> '{}')::jsonb
                                       when 'null' then null else metadata end,
           actual_result, case when actual_result is not null then evaluated_at end
    from rows from (
        jsonb_to_recordset(p_events) as (
            event_id uuid, "timestamp" timestamptz, event_type text, model_name text,
            model_id text, match_id text, prediction text, confidence double precision,
            features jsonb, metadata jsonb, actual_result text, evaluated_at timestamptz
        )
    ) with ordinality as given (
        event_id, "timestamp", event_type, model_name, model_id, match_id, prediction, confidence,
        features, metadata, actual_result, evaluated_at, n
    )
$$;

-- Ids for a message: a few of them, and how many more there are.
create or replace function ml_pipeline_some(p_ids text[]) returns text
language sql immutable
set search_path = pg_catalog, public, pg_temp
as $$
    select array_to_string(p_ids[1:5], ', ')
           || case when cardinality(p_ids) > 5
                   then format(' and %s more', cardinality(p_ids) - 5) else '' end
$$;

-- Add events and return how many were new. A known id with the same content changes nothing, and
-- what is missing says nothing; a row may bring the outcome of a pending event. Other content:
-- MLP04, and nothing is written. With `p_check_only` nothing is written in any case, so that a
-- client with more events than fit in one call can ask first.
create or replace function append_evaluation_events(
    p_events jsonb, p_check_only boolean default false
) returns integer
language plpgsql
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
declare
    total integer := jsonb_array_length(p_events);
    added integer;
    refused text[];
begin
    if p_check_only then
        select count(distinct given.event_id) into added
        from ml_pipeline_given_events(p_events) as given
        where not exists (select from evaluation_log as log where log.event_id = given.event_id);
    else
        -- In the order of ids, as every writer here: two calls never wait for each other.
        insert into evaluation_log (
            event_id, "timestamp", event_type, model_name, model_id, match_id, prediction,
            confidence, features, metadata, actual_result, evaluated_at
        )
        select distinct on (event_id)
            event_id, "timestamp", event_type, model_name, model_id, match_id, prediction,
            confidence, features, metadata, actual_result, evaluated_at
        from ml_pipeline_given_events(p_events)
        order by event_id, n
        on conflict (event_id) do nothing;
        get diagnostics added = row_count;
        if added = total then
            return added;
        end if;
        perform from evaluation_log
        where event_id in (select event_id from ml_pipeline_given_events(p_events))
        order by event_id
        for update;
    end if;

    with given as materialized (
        select * from ml_pipeline_given_events(p_events)
    ), first_outcome as (
        select distinct on (event_id) event_id, actual_result
        from given
        where actual_result is not null
        order by event_id, n
    )
    select array_agg(distinct given.event_id::text order by given.event_id::text)
    into refused
    from given
    join evaluation_log as log using (event_id)
    left join first_outcome using (event_id)
    where given."timestamp" <> log."timestamp"
       or given.model_name <> log.model_name
       or (given.model_id is not null and given.model_id is distinct from log.model_id)
       or (given.match_id is not null and given.match_id is distinct from log.match_id)
       or (given.prediction is not null and given.prediction is distinct from log.prediction)
       or (given.confidence is not null and given.confidence is distinct from log.confidence)
       or (given.features is not null and given.features is distinct from log.features)
       or given.actual_result <> coalesce(log.actual_result, first_outcome.actual_result);
    if refused is not null then
        raise exception using errcode = 'MLP04',
            message = format(
                'Known events came with other content: %s.', ml_pipeline_some(refused)
            ),
            detail = to_json(refused)::text;
    end if;
    if p_check_only then
        return added;
    end if;

    perform set_config('ml_pipeline.times', 'as given', true);
    update evaluation_log as log
    set actual_result = outcome.actual_result, evaluated_at = outcome.evaluated_at
    from (
        select distinct on (event_id) event_id, actual_result, evaluated_at
        from ml_pipeline_given_events(p_events)
        where actual_result is not null
        order by event_id, n
    ) as outcome
    where log.event_id = outcome.event_id and log.actual_result is null;
    perform set_config('ml_pipeline.times', '', true);
    return added;
end
$$;

-- Set outcomes, given as {"event id": "label"}, and return how many were new. Unknown ids: MLP03;
-- another outcome than the one that stands: MLP04; in both cases nothing is written.
create or replace function record_evaluation_outcomes(
    p_outcomes jsonb, p_evaluated_at timestamptz
) returns integer
language plpgsql
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
declare
    ids text[];
    written integer;
begin
    select array_agg(key order by key) into ids
    from jsonb_each(p_outcomes)
    where jsonb_typeof(value) <> 'string' or value = '""';
    if ids is not null then
        raise exception using errcode = 'MLP04',
            message = format('Outcomes must be text: %s.', ml_pipeline_some(ids)),
            detail = to_json(ids)::text;
    end if;

    select array_agg(key order by key) into ids
    from jsonb_each_text(p_outcomes)
    where case
        when key ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
        then not exists (select from evaluation_log where event_id = key::uuid)
        else true
    end;
    if ids is not null then
        raise exception using errcode = 'MLP03',
            message = format(
                'There are no events %s; no outcome was recorded.', ml_pipeline_some(ids)
            ),
            detail = to_json(ids)::text;
    end if;

    perform from evaluation_log
    where event_id in (select key::uuid from jsonb_each_text(p_outcomes))
    order by event_id
    for update;

    select array_agg(event_id::text order by event_id) into ids
    from jsonb_each_text(p_outcomes)
    join evaluation_log on event_id = key::uuid
    where actual_result <> value;
    if ids is not null then
        raise exception using errcode = 'MLP04',
            message = format(
                'Another outcome stands for %s; no outcome was recorded.', ml_pipeline_some(ids)
            ),
            detail = to_json(ids)::text;
    end if;

    perform set_config('ml_pipeline.times', 'as given', true);
    update evaluation_log
    set actual_result = value, evaluated_at = p_evaluated_at
    from jsonb_each_text(p_outcomes)
    where event_id = key::uuid and actual_result is null;
    get diagnostics written = row_count;
    perform set_config('ml_pipeline.times', '', true);
    return written;
end
$$;

-- One page of events whose time falls in [p_start, p_end), by (known_at, event_id), after the key
-- of the last event of the page before. An empty array is the end. The answer is one JSON value,
-- so a server's row cap does not cut it: an array of arrays, because the names of the columns in
-- every row would be half of the answer. The columns are the seed's, then model_name, features,
-- evaluated_at and known_at; features and metadata are JSON text.
create or replace function read_evaluation_events(
    p_model_name text, p_start timestamptz, p_end timestamptz,
    p_labelled_only boolean default true, p_after_known_at timestamptz default null,
    p_after_event_id uuid default null, p_rows integer default 1000
) returns json
language plpgsql stable
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
set plan_cache_mode = 'force_custom_plan'
as $$
declare
    after_time timestamptz := coalesce(p_after_known_at, '-infinity');
    after_id uuid := coalesce(p_after_event_id, '00000000-0000-0000-0000-000000000000');
    page json;
begin
    with labelled as (
        select *
        from evaluation_log
        where actual_result is not null and prediction is not null
          and model_name = p_model_name and known_at >= p_start and known_at < p_end
          and (known_at, event_id) > (after_time, after_id)
        order by known_at, event_id
        limit p_rows
    ), pending as (
        select *
        from evaluation_log
        where actual_result is null and prediction is not null and not p_labelled_only
          and model_name = p_model_name and known_at >= p_start and known_at < p_end
          and (known_at, event_id) > (after_time, after_id)
        order by known_at, event_id
        limit p_rows
    ), chosen as (
        select "timestamp", event_id, event_type, model_id, match_id, prediction, actual_result,
               confidence, accuracy, metadata::text, status, model_name, features::text,
               evaluated_at, known_at
        from (select * from labelled union all select * from pending) as events
        order by known_at, event_id
        limit p_rows
    )
    select json_agg(json_build_array("timestamp", event_id, event_type, model_id, match_id,
               prediction, actual_result, confidence, accuracy, metadata, status, model_name,
               features, evaluated_at, known_at))
    into page from chosen;
    return coalesce(page, '[]');
end
$$;

-- One page of labelled events that are wrong with confidence strictly over the threshold, in the
-- same order and shape. `p_model_ids` keeps the predictions of those models, null every model's.
create or replace function read_error_samples(
    p_model_name text, p_start timestamptz, p_end timestamptz, p_confidence double precision,
    p_model_ids text[] default null, p_after_known_at timestamptz default null,
    p_after_event_id uuid default null, p_rows integer default 1000
) returns json
language plpgsql stable
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
set plan_cache_mode = 'force_custom_plan'
as $$
declare
    after_time timestamptz := coalesce(p_after_known_at, '-infinity');
    after_id uuid := coalesce(p_after_event_id, '00000000-0000-0000-0000-000000000000');
    page json;
begin
    with chosen as (
        select "timestamp", event_id, event_type, model_id, match_id, prediction, actual_result,
               confidence, accuracy, metadata::text, status, model_name, features::text,
               evaluated_at, known_at
        from evaluation_log
        where accuracy = 0 and prediction <> 'UNCERTAIN' and confidence > p_confidence
          and model_name = p_model_name and known_at >= p_start and known_at < p_end
          and (known_at, event_id) > (after_time, after_id)
          and (p_model_ids is null or model_id = any (p_model_ids))
        order by known_at, event_id
        limit p_rows
    )
    select json_agg(json_build_array("timestamp", event_id, event_type, model_id, match_id,
               prediction, actual_result, confidence, accuracy, metadata, status, model_name,
               features, evaluated_at, known_at))
    into page from chosen;
    return coalesce(page, '[]');
end
$$;

-- Labelled events per UTC day of the time they became known, as an array of
-- {"day", "labelled", "correct", "uncertain"}; days without any are absent.
create or replace function count_labelled_by_day(
    p_model_name text, p_start timestamptz, p_end timestamptz
) returns json
language plpgsql stable
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
set plan_cache_mode = 'force_custom_plan'
as $$
declare
    answer json;
begin
    with days as (
        select (known_at at time zone 'UTC')::date as day,
               count(*) as labelled,
               count(*) filter (where accuracy = 1) as correct,
               count(*) filter (where prediction = 'UNCERTAIN') as uncertain
        from evaluation_log
        where actual_result is not null and prediction is not null
          and model_name = p_model_name and known_at >= p_start and known_at < p_end
        group by 1
        order by 1
    )
    select json_agg(days) into answer from days;
    return coalesce(answer, '[]');
end
$$;

select ml_pipeline_lock(
    'ml_pipeline_given_events', 'ml_pipeline_some', 'append_evaluation_events',
    'record_evaluation_outcomes', 'read_evaluation_events', 'read_error_samples',
    'count_labelled_by_day'
);

insert into ml_pipeline_schema_version (version, name) values (6, 'log_functions')
on conflict (version) do nothing;

notify pgrst, 'reload schema';
