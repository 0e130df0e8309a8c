-- How often a model answered what, and how many of these answers have an outcome by now: whether
-- right and wrong answers get labels alike.

create or replace function count_answers(
    p_model_name text, p_start timestamptz, p_end timestamptz
) returns jsonb
language sql stable
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
    with answers as (
        select prediction, actual_result, confidence
        from evaluation_log
        where actual_result is not null and prediction is not null and model_name = p_model_name
          and known_at >= p_start and known_at < p_end
        union all
        select prediction, actual_result, confidence
        from evaluation_log
        where actual_result is null and prediction is not null and model_name = p_model_name
          and known_at >= p_start and known_at < p_end
    ), counts as (
        select prediction, count(*) as answers, count(actual_result) as labelled,
               count(confidence) as scored, coalesce(sum(confidence), 0) as confidence_sum
        from answers
        group by prediction
    )
    select coalesce(jsonb_agg(to_jsonb(counts) order by prediction), '[]') from counts
$$;

select ml_pipeline_lock('count_answers');

insert into ml_pipeline_schema_version (version, name) values (23, 'answers')
on conflict (version) do nothing;

notify pgrst, 'reload schema';
