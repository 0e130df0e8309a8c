-- What an answer was made of travels with its event.

-- A JSON object from each class, as the classes are called, to its probability; they sum to 1.
alter table evaluation_log add column if not exists probabilities jsonb;

select ml_pipeline_retype('evaluation_log', 'jsonb', 'probabilities');

-- Events as `ml_pipeline_given_events` gives them, with their probabilities, which may be JSON or
-- JSON text as well.
create or replace function ml_pipeline_logged_events(p_events jsonb)
returns table (
    n bigint, event_id uuid, "timestamp" timestamptz, event_type text, model_name text,
    model_id text, match_id text, prediction text, confidence double precision, features jsonb,
    probabilities jsonb, metadata jsonb, actual_result text, evaluated_at timestamptz
)
language sql stable
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
    select n, event_id, "timestamp", event_type, model_name, model_id, match_id, prediction,
           confidence, features,
           case jsonb_typeof(item -> 'probabilities')
               when 'string' then (item ->> 'probabilities')::jsonb
               when 'null' then null
               else item -> 'probabilities'
           end,
           metadata, actual_result, evaluated_at
    from ml_pipeline_given_events(p_events)
    join jsonb_array_elements(p_events) with ordinality as given (item, n) using (n)
$$;

-- As in 0025, and a row may bring the probabilities of an event that was stored without them.
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
            confidence, features, probabilities, metadata, actual_result, evaluated_at
        )
        select distinct on (event_id)
            event_id, "timestamp", event_type, model_name, model_id, match_id, prediction,
            confidence, features, probabilities, metadata, actual_result, evaluated_at
        from ml_pipeline_logged_events(p_events)
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
        select *, ml_pipeline_history(metadata, actual_result) as past
        from ml_pipeline_logged_events(p_events)
    ), answers as (
        select distinct on (event_id) event_id, probabilities as first
        from given
        where probabilities is not null
        order by event_id, n
    ), latest as (
        -- The longest of what is stored and given; what stands goes before what is given.
        select distinct on (event_id) event_id, past
        from (
            select event_id, ml_pipeline_history(metadata, actual_result) as past, 0 as n
            from evaluation_log
            where event_id in (select event_id from given)
              and (actual_result is not null or metadata ? 'outcome_corrections')
            union all
            select event_id, past, n from given where actual_result is not null
        ) as known
        order by event_id, cardinality(past) desc, n
    )
    select array_agg(distinct given.event_id::text order by given.event_id::text)
    into refused
    from given
    join evaluation_log as log using (event_id)
    left join latest using (event_id)
    left join answers using (event_id)
    where given."timestamp" <> log."timestamp"
       or given.model_name <> log.model_name
       or (given.model_id is not null and given.model_id is distinct from log.model_id)
       or (given.match_id is not null and given.match_id is distinct from log.match_id)
       or (given.prediction is not null and given.prediction is distinct from log.prediction)
       or (given.confidence is not null and given.confidence is distinct from log.confidence)
       or (given.features is not null and given.features is distinct from log.features)
       or given.probabilities <> coalesce(log.probabilities, answers.first)
       or given.actual_result <> latest.past[cardinality(given.past)]
       or log.actual_result
          <> latest.past[cardinality(ml_pipeline_history(log.metadata, log.actual_result))];
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

    update evaluation_log as log
    set probabilities = answers.probabilities
    from (
        select distinct on (event_id) event_id, probabilities
        from ml_pipeline_logged_events(p_events)
        where probabilities is not null
        order by event_id, n
    ) as answers
    where log.event_id = answers.event_id and log.probabilities is null;

    perform set_config('ml_pipeline.times', 'as given', true);
    update evaluation_log as log
    set actual_result = outcome.actual_result, evaluated_at = outcome.evaluated_at,
        metadata = case when outcome.metadata ? 'outcome_corrections' then outcome.metadata
                        else log.metadata end
    from (
        select distinct on (event_id) event_id, actual_result, evaluated_at, metadata,
               cardinality(ml_pipeline_history(metadata, null)) as length
        from ml_pipeline_given_events(p_events)
        where actual_result is not null
        order by event_id, cardinality(ml_pipeline_history(metadata, null)) desc, n
    ) as outcome
    where log.event_id = outcome.event_id
      and outcome.length + (log.actual_result is null)::integer
          > cardinality(ml_pipeline_history(log.metadata, null));
    perform set_config('ml_pipeline.times', '', true);
    return added;
end
$$;

-- As in 0006 and 0024. With `p_probabilities` the rows have these, as JSON text, before
-- evaluated_at; without it they are as they were, for programs of before.
drop function if exists read_evaluation_events(
    text, timestamptz, timestamptz, boolean, timestamptz, uuid, integer
);

create or replace function read_evaluation_events(
    p_model_name text, p_start timestamptz, p_end timestamptz,
    p_labelled_only boolean default true, p_after_known_at timestamptz default null,
    p_after_event_id uuid default null, p_rows integer default 1000,
    p_probabilities boolean default false
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
               probabilities::text, evaluated_at, known_at
        from (select * from labelled union all select * from pending) as events
        order by known_at, event_id
        limit p_rows
    )
    select json_agg(case
        when p_probabilities then json_build_array("timestamp", event_id, event_type, model_id,
            match_id, prediction, actual_result, confidence, accuracy, metadata, status,
            model_name, features, probabilities, evaluated_at, known_at)
        else json_build_array("timestamp", event_id, event_type, model_id, match_id, prediction,
            actual_result, confidence, accuracy, metadata, status, model_name, features,
            evaluated_at, known_at)
    end)
    into page from chosen;
    return coalesce(page, '[]');
end
$$;

drop function if exists read_error_samples(
    text, timestamptz, timestamptz, double precision, text[], timestamptz, uuid, integer
);

create or replace function read_error_samples(
    p_model_name text, p_start timestamptz, p_end timestamptz, p_confidence double precision,
    p_model_ids text[] default null, p_after_known_at timestamptz default null,
    p_after_event_id uuid default null, p_rows integer default 1000,
    p_probabilities boolean default false
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
    with answered as (
        select event_id, known_at
        from evaluation_log
        where accuracy = 0 and prediction <> 'UNCERTAIN' and confidence > p_confidence
          and model_name = p_model_name and known_at >= p_start and known_at < p_end
          and (known_at, event_id) > (after_time, after_id)
          and (p_model_ids is null or model_id = any (p_model_ids))
        order by known_at, event_id
        limit p_rows
    ), unsure as (
        select event_id, known_at
        from evaluation_log
        where accuracy = 0 and prediction = 'UNCERTAIN' and confidence > p_confidence
          and metadata ->> 'best_guess' <> actual_result
          and model_name = p_model_name and known_at >= p_start and known_at < p_end
          and (known_at, event_id) > (after_time, after_id)
          and (p_model_ids is null or model_id = any (p_model_ids))
        order by known_at, event_id
        limit p_rows
    ), both_kinds as (
        select event_id from (select * from answered union all select * from unsure) as found
        order by known_at, event_id
        limit p_rows
    ), chosen as (
        select "timestamp", event_id, event_type, model_id, match_id, prediction, actual_result,
               confidence, accuracy, metadata::text, status, model_name, features::text,
               probabilities::text, evaluated_at, known_at
        from evaluation_log join both_kinds using (event_id)
        order by known_at, event_id
    )
    select json_agg(case
        when p_probabilities then json_build_array("timestamp", event_id, event_type, model_id,
            match_id, prediction, actual_result, confidence, accuracy, metadata, status,
            model_name, features, probabilities, evaluated_at, known_at)
        else json_build_array("timestamp", event_id, event_type, model_id, match_id, prediction,
            actual_result, confidence, accuracy, metadata, status, model_name, features,
            evaluated_at, known_at)
    end)
    into page from chosen;
    return coalesce(page, '[]');
end
$$;

-- How long after its prediction an outcome was known, in days: of how many labelled events of the
-- window, what half of them took at most, and what nine tenths did.
create or replace function label_delays(
    p_model_name text, p_start timestamptz, p_end timestamptz
) returns jsonb
language sql stable
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
    with delays as (
        select (extract(epoch from known_at - "timestamp") / 86400)::double precision as delay
        from evaluation_log
        where actual_result is not null and prediction is not null
          and model_name = p_model_name and known_at >= p_start and known_at < p_end
          and known_at > "timestamp"
    ), placed as (
        select delay, row_number() over (order by delay) as place, count(*) over () as total
        from delays
    )
    select jsonb_build_object(
        'rows', count(*),
        'median', max(delay) filter (where place = (total + 1) / 2),
        'most', max(delay) filter (where place = (9 * total + 9) / 10)
    )
    from placed
$$;

select ml_pipeline_lock(
    'evaluation_log', 'label_delays', 'ml_pipeline_logged_events', 'append_evaluation_events',
    'read_evaluation_events', 'read_error_samples'
);

insert into ml_pipeline_schema_version (version, name) values (29, 'probabilities')
on conflict (version) do nothing;

notify pgrst, 'reload schema';
