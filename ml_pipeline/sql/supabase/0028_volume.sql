-- What a worker, the monitoring page and the watchdog read again and again, made small: whether
-- anything changed, ids without rows, runs without what their reports need, samples of events.

-- A text that changes whenever a row does that `status` and the page show of the model. Every write
-- of a row changes its xmin; nothing is read of the rows but that.
create or replace function ml_pipeline_etag(p_model_name text, p_since date) returns jsonb
language sql stable
set search_path = pg_catalog, public, pg_temp
as $$
    select jsonb_build_array(md5(concat_ws('|',
        (
            select string_agg(concat(id, ' ', row_version), ',' order by started_at desc, id)
            from (
                select id, xmin::text as row_version, started_at from model_retraining_runs
                where model_name = p_model_name
                order by started_at desc, id desc
                limit 30
            ) as run
        ), (
            select string_agg(concat(id, ' ', xmin), ',' order by id)
            from model_retraining_requests
            where model_name = p_model_name and status in ('pending', 'processing')
        ), (
            select string_agg(concat(model_id, ' ', xmin), ',' order by model_id)
            from model_metadata
            where model_name = p_model_name and state in ('champion', 'awaiting_approval')
        ), (
            select concat(count(*), ' ', max(created_at)) from model_promotion_events
            where model_name = p_model_name
        ), (
            select string_agg(concat(day, ' ', model_id, ' ', xmin), ',' order by day, model_id)
            from prediction_accuracy_daily
            where model_name = p_model_name and day >= p_since
        ), (
            select string_agg(concat(id, ' ', row_version), ',' order by detected_at desc, id)
            from (
                select id, xmin::text as row_version, detected_at from prediction_decay_events
                where model_name = p_model_name
                order by detected_at desc, id desc
                limit 10
            ) as alert
        )
    )))
$$;

-- The latest runs as `list_retraining_runs` has them, with some entries of their details: those of
-- `p_only` (null: all) that are not among `p_without`.
create or replace function list_retraining_runs_in_brief(
    p_model_name text, p_limit integer, p_only text[], p_without text[]
) returns jsonb
language sql stable
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
    select coalesce(jsonb_agg(
        (to_jsonb(run) - 'details') || jsonb_build_object('details', case
            when p_only = '{}' then '{}'::jsonb
            else (
                select coalesce(jsonb_object_agg(entry.key, entry.value), '{}')
                from jsonb_each(run.details) as entry
                where (p_only is null or entry.key = any (p_only))
                  and not entry.key = any (p_without)
            )
        end)
        order by run.started_at desc, run.id desc
    ), '[]')
    from (
        select * from model_retraining_runs where model_name = p_model_name
        order by started_at desc, id desc
        limit p_limit
    ) as run
$$;

-- Registered models as `list_models` has them; `p_state` keeps one state.
create or replace function list_models_in_state(
    p_model_name text, p_limit integer, p_anchor_id text, p_state text
) returns jsonb
language sql stable
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
    select coalesce(jsonb_agg(to_jsonb(model)), '[]')
    from (
        select * from model_metadata
        where model_name = p_model_name and (p_anchor_id is null or anchor_id = p_anchor_id)
          and (p_state is null or state = p_state)
        order by created_at desc, model_id collate "C" desc
        limit p_limit
    ) as model
$$;

-- The ids of registered models, of one lineage.
create or replace function list_model_ids(p_model_name text, p_anchor_id text) returns jsonb
language sql stable
set search_path = pg_catalog, public, pg_temp
as $$
    select coalesce(jsonb_agg(model_id order by model_id), '[]') from model_metadata
    where model_name = p_model_name and anchor_id = p_anchor_id
$$;

-- What a text means as a label, see 0022.
create or replace function ml_pipeline_label(p_text text, p_labels jsonb) returns text
language sql immutable
set search_path = pg_catalog, public, pg_temp
as $$
    select coalesce(
        p_labels -> 'exact' ->> p_text, p_labels -> 'exact' ->> trimmed,
        p_labels -> 'folded' ->> regexp_replace(lower(trimmed), '^(-*[0-9]+)[.]0+$', '\1'), trimmed
    )
    from (
        select btrim(p_text, E' \t\n\x0b\x0c\r\x1c\x1d\x1e\x1f\u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000')
    ) as given (trimmed)
$$;

-- Whether the answers of the window were right (1) or wrong (0), in the order in which they were
-- given, as one text in an array: the last `p_rows` of those that have a confidence.
create or replace function evaluations_in_order(
    p_model_name text, p_start timestamptz, p_end timestamptz, p_model_ids text[], p_labels jsonb,
    p_rows integer
) returns jsonb
language sql stable
set search_path = pg_catalog, public, pg_temp
as $$
    with answers as (
        select "timestamp" as at, event_id,
               accuracy = 1 or ml_pipeline_label(prediction, p_labels)
                   = ml_pipeline_label(actual_result, p_labels) as is_right
        from evaluation_log
        where actual_result is not null and prediction is not null
          and model_name = p_model_name and known_at >= p_start and known_at < p_end
          and (p_model_ids is null or model_id = any (p_model_ids))
          and prediction <> 'UNCERTAIN' and confidence is not null
        order by "timestamp" desc, event_id desc
        limit p_rows
    )
    select jsonb_build_array(coalesce(
        string_agg(case when is_right then '1' else '0' end, '' order by at, event_id), ''
    ))
    from answers
$$;

-- At most `p_rows` events of the window, spread over it by their ids, so that the same ones come
-- each time: labelled ones, or those that wait for their outcome. Of a window with more than a
-- hundred thousand of them the newest are taken. An array of arrays: event_id, timestamp, known_at,
-- model_id, prediction, actual_result, confidence, features (JSON text, or null where not wanted).
create or replace function sample_evaluation_events(
    p_model_name text, p_start timestamptz, p_end timestamptz, p_model_ids text[],
    p_labelled boolean, p_rows integer, p_features boolean
) returns json
language plpgsql stable
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
set plan_cache_mode = 'force_custom_plan'
as $$
declare
    page json;
begin
    with labelled as (
        select event_id, known_at from evaluation_log
        where actual_result is not null and prediction is not null and p_labelled
          and model_name = p_model_name and known_at >= p_start and known_at < p_end
          and (p_model_ids is null or model_id = any (p_model_ids))
        order by known_at desc, event_id desc
        limit 100000
    ), pending as (
        select event_id, known_at from evaluation_log
        where actual_result is null and prediction is not null and not p_labelled
          and model_name = p_model_name and known_at >= p_start and known_at < p_end
          and (p_model_ids is null or model_id = any (p_model_ids))
        order by known_at desc, event_id desc
        limit 100000
    ), newest as (
        select * from labelled union all select * from pending
    ), chosen as (
        select event_id from newest order by md5(event_id::text), event_id limit p_rows
    )
    select json_agg(json_build_array(
        event_id, "timestamp", known_at, model_id, prediction, actual_result, confidence,
        case when p_features then features::text end
    ) order by known_at, event_id)
    into page
    from evaluation_log join chosen using (event_id);
    return coalesce(page, '[]');
end
$$;

select ml_pipeline_lock(
    'ml_pipeline_etag', 'list_retraining_runs_in_brief', 'list_models_in_state', 'list_model_ids',
    'ml_pipeline_label', 'evaluations_in_order', 'sample_evaluation_events'
);

insert into ml_pipeline_schema_version (version, name) values (28, 'volume')
on conflict (version) do nothing;

notify pgrst, 'reload schema';
