-- Answers that were not given, for want of confidence, whose best guess was wrong are errors too.

create index if not exists evaluation_log_unsure
    on evaluation_log (model_name, known_at, event_id, confidence)
    where accuracy = 0 and prediction = 'UNCERTAIN';

-- One page of labelled events that are wrong with confidence strictly over the threshold, in the
-- same order and shape; of an UNCERTAIN answer its best guess counts. `p_model_ids` keeps the
-- predictions of those models, null every model's.
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
               evaluated_at, known_at
        from evaluation_log join both_kinds using (event_id)
        order by known_at, event_id
    )
    select json_agg(json_build_array("timestamp", event_id, event_type, model_id, match_id,
               prediction, actual_result, confidence, accuracy, metadata, status, model_name,
               features, evaluated_at, known_at))
    into page from chosen;
    return coalesce(page, '[]');
end
$$;

select ml_pipeline_lock('read_error_samples');

insert into ml_pipeline_schema_version (version, name) values (24, 'unsure_answers')
on conflict (version) do nothing;

notify pgrst, 'reload schema';
