-- An accented letter is the same whether it is one character or a letter with its accent (Unicode's
-- NFC and NFD): also in a label that the settings do not name, which `p_labels` cannot list.

-- As in 0022.
create or replace function sum_evaluations_by_day(
    p_model_name text, p_start timestamptz, p_end timestamptz, p_confidence double precision,
    p_labels jsonb default '{}'
) returns jsonb
language sql stable
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
    with judged as (
        select known_at::date as day, coalesce(model_id, 'unknown') as model_id, confidence,
               prediction = 'UNCERTAIN' as is_uncertain,
               case when accuracy = 1 then true else
                   coalesce(
                       p_labels -> 'exact' ->> prediction, p_labels -> 'exact' ->> btrim(prediction, space),
                       p_labels -> 'folded' ->> regexp_replace(
                           lower(btrim(prediction, space)), '^(-*[0-9]+)[.]0+$', '\1'),
                       normalize(btrim(prediction, space)))
                   = coalesce(
                       p_labels -> 'exact' ->> actual_result, p_labels -> 'exact' ->> btrim(actual_result, space),
                       p_labels -> 'folded' ->> regexp_replace(
                           lower(btrim(actual_result, space)), '^(-*[0-9]+)[.]0+$', '\1'),
                       normalize(btrim(actual_result, space)))
               end as is_hit
        from evaluation_log, (select E' \t\n\x0b\x0c\r\x1c\x1d\x1e\x1f\u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000') as given (space)
        where model_name = p_model_name and actual_result is not null
          and known_at >= p_start and known_at < p_end
    ), answers as (
        select day, model_id, confidence, is_uncertain,
               not is_uncertain and is_hit as is_right,
               not is_uncertain and confidence is not null as is_scored,
               -ln(case when is_hit then least(greatest(confidence, 0.001), 0.999)
                        else 1 - least(greatest(confidence, 0.001), 0.999) end) as loss
        from judged
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

-- As in 0028.
create or replace function ml_pipeline_label(p_text text, p_labels jsonb) returns text
language sql immutable
set search_path = pg_catalog, public, pg_temp
as $$
    select coalesce(
        p_labels -> 'exact' ->> p_text, p_labels -> 'exact' ->> trimmed,
        p_labels -> 'folded' ->> regexp_replace(lower(trimmed), '^(-*[0-9]+)[.]0+$', '\1'), normalize(trimmed)
    )
    from (
        select btrim(p_text, E' \t\n\x0b\x0c\r\x1c\x1d\x1e\x1f\u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000')
    ) as given (trimmed)
$$;

select ml_pipeline_lock('sum_evaluations_by_day', 'ml_pipeline_label');

insert into ml_pipeline_schema_version (version, name) values (40, 'label_letters')
on conflict (version) do nothing;

notify pgrst, 'reload schema';
