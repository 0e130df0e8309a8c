-- An outcome known before its prediction is not its outcome, and days are counted without
-- comparing labels by their text.

-- As in 0006, and the outcome is that of predictions made before it was known.
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

    -- Clocks of two machines differ a little.
    select array_agg(event_id::text order by event_id) into ids
    from jsonb_each_text(p_outcomes)
    join evaluation_log on event_id = key::uuid
    where actual_result is null and "timestamp" > p_evaluated_at + interval '1 hour';
    if ids is not null then
        raise exception using errcode = 'MLP04',
            message = format(
                'An outcome known before its prediction is not its outcome: %s; '
                'no outcome was recorded.', ml_pipeline_some(ids)
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

-- Labelled events per UTC day of the time they became known, as an array of
-- {"day", "labelled"}; days without any are absent. Who was right is asked of
-- sum_evaluations_by_day, which knows how labels are spelt.
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
               count(*) as labelled
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

select ml_pipeline_lock('record_evaluation_outcomes', 'count_labelled_by_day');

insert into ml_pipeline_schema_version (version, name) values (27, 'outcome_times')
on conflict (version) do nothing;

notify pgrst, 'reload schema';
