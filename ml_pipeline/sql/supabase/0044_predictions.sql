-- Predictions by `rpc('predict', …)`: read, scored, judged and logged in one transaction.
--
-- Further errors that the functions raise on purpose, beside those of 0001:
--   MLP07  the database cannot answer with the model that serves
--   MLP08  input that cannot be used

-- What an id, an outcome's label or a signed-in user is called by whoever signed the token.
create or replace function ml_pipeline_subject() returns text
language sql stable
set search_path = pg_catalog, public, pg_temp
as $$
    select coalesce(
        nullif(current_setting('request.jwt.claim.sub', true), ''),
        nullif(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub', '')
    )
$$;

-- A number with six digits, as sentences have it.
create or replace function ml_pipeline_short(p_number double precision) returns text
language sql immutable
set search_path = pg_catalog, public, pg_temp
set extra_float_digits = -9
as $$
    select p_number::text
$$;

-- A value as a sentence shows it.
create or replace function ml_pipeline_shown(p_value jsonb) returns text
language sql immutable
set search_path = pg_catalog, public, pg_temp
as $$
    select case when length(p_value::text) > 62 then left(p_value::text, 60) || '…'
                else p_value::text end
$$;

create or replace function ml_pipeline_refuse(p_message text, p_hint text default '') returns void
language plpgsql
set search_path = pg_catalog, public, pg_temp
as $$
begin
    raise exception using errcode = 'MLP08', message = p_message, hint = p_hint;
end
$$;

-- Whether a text stands for no value, where a number, a truth or a time is wanted.
create or replace function ml_pipeline_is_blank(p_text text) returns boolean
language sql immutable
set search_path = pg_catalog, public, pg_temp
as $$
    select lower(btrim(p_text, E' \t\n\x0b\x0c\r\x1c\x1d\x1e\x1f\u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000')) = any (array[
        '', 'nan', 'none', 'null', '<na>', 'na', 'n/a', '#n/a', 'nat', '?', '-', '--'
    ])
$$;

-- A number, NaN for a missing one. MLP08 for what is none, and for one that is out of range.
create or replace function ml_pipeline_read_number(p_value jsonb, p_name text)
returns double precision
language plpgsql immutable
set search_path = pg_catalog, public, pg_temp
as $$
declare
    kind constant text := jsonb_typeof(p_value);
    written text;
    number numeric;
begin
    if kind = 'number' then
        number := p_value::numeric;
    elsif kind = 'null' then
        return 'NaN'::double precision;
    elsif kind = 'boolean' then
        return case when p_value::boolean then 1 else 0 end;
    elsif kind = 'string' then
        written := p_value #>> '{}';
        if ml_pipeline_is_blank(written) then
            return 'NaN'::double precision;
        end if;
        written := lower(btrim(written, E' \t\n\x0b\x0c\r\u0085\u00a0\u2028\u2029\u3000'));
        if written ~ '^[+-]?(inf|infinity)$' then
            perform ml_pipeline_refuse(
                format('%s = %s is not a finite number.', p_name, written)
            );
        end if;
        if length(written) > 400
            or written !~ '^[+-]?([0-9](_?[0-9])*\.?([0-9](_?[0-9])*)?|\.[0-9](_?[0-9])*)(e[+-]?[0-9]{1,4})?$'
        then
            perform ml_pipeline_refuse(
                format('%s = %s is not a number.', p_name, ml_pipeline_shown(p_value))
            );
        end if;
        number := replace(written, '_', '')::numeric;
    else
        perform ml_pipeline_refuse(
            format('%s = %s is not a number.', p_name, ml_pipeline_shown(p_value))
        );
    end if;
    if abs(number) > 1e150 then
        perform ml_pipeline_refuse(
            format('%s = %s is out of range.', p_name, ml_pipeline_shown(p_value))
        );
    end if;
    -- PostgreSQL reads no number that a double holds as 0.
    return case when abs(number) < 1e-300 then 0 else number::double precision end;
end
$$;

-- The name of a category's level, '' for a missing one, as `store.inputs.cells` has it.
create or replace function ml_pipeline_level(p_value jsonb) returns text
language plpgsql immutable
set search_path = pg_catalog, public, pg_temp
as $$
declare
    kind constant text := jsonb_typeof(p_value);
    name text;
begin
    if kind = 'null' then
        return '';
    elsif kind = 'number' then
        name := (p_value::numeric)::text;
        if strpos(name, '.') > 0 then
            name := (p_value::double precision)::text;
        end if;
    else
        name := normalize(btrim(
            p_value #>> '{}', E' \t\n\x0b\x0c\r\x1c\x1d\x1e\x1f\u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000'
        ));
    end if;
    if lower(name) = any (array['', 'nan', 'none', 'null', '<na>']) then
        return '';
    end if;
    return case
        when name ~ '^-?[0-9]+\.0+$' then split_part(name, '.', 1)
        when name in ('True', 'TRUE') then 'true'
        when name in ('False', 'FALSE') then 'false'
        else name
    end;
end
$$;

-- The moment in a text, as `store.inputs.times` reads it; null for none.
create or replace function ml_pipeline_moment(p_text text) returns timestamptz
language plpgsql stable
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
declare
    part text[];
    moment timestamp;
    zone text;
    minutes integer;
begin
    part := regexp_match(
        btrim(p_text),
        '^(\d{4})(?:[-/](\d{1,2})[-/](\d{1,2})|(\d\d)(\d\d))'
        '(?:[Tt\s]+(\d{1,2})(?::?(\d{2})(?::?(\d{2})(?:[.,](\d+))?)?)?)?'
        '\s*([Zz]|[+-]\d{2}(?::?\d{2})?|[A-Za-z]+(?:/[A-Za-z_]+)*)?$'
    );
    if part is null or part[6]::integer > 23 or part[8]::integer > 59 then
        return null;
    end if;
    begin
        moment := make_timestamp(
            part[1]::integer, coalesce(part[2], part[4])::integer,
            coalesce(part[3], part[5])::integer, coalesce(part[6], '0')::integer,
            coalesce(part[7], '0')::integer, coalesce(part[8], '0')::double precision
        ) + make_interval(
            secs => ('0.' || coalesce(left(part[9], 6), '0'))::double precision
        );
        zone := upper(coalesce(part[10], 'Z'));
        if zone in ('Z', 'UTC', 'GMT') then
            return moment at time zone 'UTC';
        elsif left(zone, 1) in ('+', '-') then
            minutes := substr(zone, 2, 2)::integer * 60
                + coalesce(nullif(replace(substr(zone, 4), ':', ''), ''), '0')::integer;
            if minutes >= 1440 then
                return null;
            end if;
            return (moment - case when left(zone, 1) = '+' then 1 else -1 end
                * make_interval(mins => minutes)) at time zone 'UTC';
        end if;
        return moment at time zone part[10];
    exception
        when datetime_field_overflow or invalid_parameter_value then return null;
    end;
end
$$;

-- A moment as the log keeps it.
create or replace function ml_pipeline_iso(p_moment timestamptz) returns text
language sql stable
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
    select to_char(p_moment, 'YYYY-MM-DD"T"HH24:MI:SS')
        || case when extract(microseconds from p_moment)::bigint % 1000000 = 0 then ''
                else to_char(p_moment, '.US') end || '+00:00'
$$;

-- One value of a feature that is no number: the number that stands for it, NaN for a missing one,
-- and what the log keeps. MLP08.
create or replace function ml_pipeline_read_cell(
    p_kind text, p_value jsonb, p_name text, out number double precision, out kept jsonb
)
language plpgsql stable
set search_path = pg_catalog, public, pg_temp
as $$
declare
    written text;
    moment timestamptz;
begin
    number := 'NaN'::double precision;
    kept := 'null';
    if jsonb_typeof(p_value) in ('object', 'array') then
        perform ml_pipeline_refuse(
            format('%s = %s is no single value.', p_name, ml_pipeline_shown(p_value))
        );
    end if;
    if p_kind = 'category' then
        written := ml_pipeline_level(p_value);
        if length(written) > 1000 then
            perform ml_pipeline_refuse(
                format('%s has %s characters, a category at most 1,000.', p_name, length(written)),
                'Shorten it.'
            );
        end if;
        if written <> '' then
            number := ('x' || substr(md5(written), 1, 13))::bit(52)::bigint;
            kept := to_jsonb(written);
        end if;
        return;
    end if;
    written := p_value #>> '{}';
    if written is null or ml_pipeline_is_blank(written) then
        return;
    end if;
    if p_kind = 'boolean' then
        written := lower(btrim(written));
        if written = any (array['true', 't', 'yes', 'y', 'on', '1', '1.0']) then
            number := 1;
        elsif written = any (array['false', 'f', 'no', 'n', 'off', '0', '0.0']) then
            number := 0;
        else
            perform ml_pipeline_refuse(format(
                '%s = %s is neither true nor false.', p_name, ml_pipeline_shown(p_value)
            ));
        end if;
        kept := to_jsonb(number = 1);
        return;
    end if;
    moment := ml_pipeline_moment(written);
    if moment is null then
        perform ml_pipeline_refuse(
            format('%s = %s is not an ISO 8601 time.', p_name, ml_pipeline_shown(p_value)),
            'Write 2026-03-14T15:00:00Z.'
        );
    end if;
    number := extract(epoch from moment);
    kept := to_jsonb(ml_pipeline_iso(moment));
end
$$;

-- One row of features, by name or in the model's order: the numbers, NaN for a missing value, the
-- values as the log keeps them, and the names of missing ones. MLP08.
create or replace function ml_pipeline_read_row(
    p_features jsonb, p_names text[], p_kinds text[], p_imputes boolean,
    out numbers double precision[], out logged jsonb, out missing text[]
)
language plpgsql stable
set search_path = pg_catalog, public, pg_temp
as $$
declare
    is_object constant boolean := coalesce(jsonb_typeof(p_features) = 'object', false);
    width constant integer := cardinality(p_names);
    value jsonb;
    x double precision;
    keep jsonb[];
    is_as_given boolean := is_object;
begin
    if not is_object then
        if coalesce(jsonb_typeof(p_features), 'null') <> 'array' then
            perform ml_pipeline_refuse(
                'The features are neither an object of names and values nor an array of values.'
            );
        elsif jsonb_array_length(p_features) <> width then
            perform ml_pipeline_refuse(format(
                'The model takes %s features (%s), not %s.', width,
                array_to_string(p_names, ', '), jsonb_array_length(p_features)
            ));
        end if;
    end if;
    numbers := array_fill('NaN'::double precision, array[width]);
    keep := array_fill('null'::jsonb, array[width]);
    missing := '{}';
    for i in 1 .. width loop
        value := case when is_object then p_features -> p_names[i] else p_features -> (i - 1) end;
        if value is null then
            perform ml_pipeline_refuse(format('Features are missing: %s.', (
                select string_agg(name, ', ' order by place)
                from unnest(p_names) with ordinality as known (name, place)
                where not p_features ? name
            )));
        end if;
        if cardinality(p_kinds) = 0 or p_kinds[i] = 'number' then
            -- Most values are plain numbers; a call for each would take longer than the rest.
            if jsonb_typeof(value) = 'number'
                and abs(value::numeric) between 1e-300 and 1e150 or value = '0'
            then
                x := value::double precision;
            else
                x := ml_pipeline_read_number(value, p_names[i]);
            end if;
            if x <> 'NaN' then
                keep[i] := to_jsonb(x);
            end if;
            is_as_given := is_as_given and keep[i] = value;
        else
            is_as_given := false;
            select cell.number, cell.kept into x, value
            from ml_pipeline_read_cell(p_kinds[i], value, p_names[i]) as cell;
            keep[i] := value;
        end if;
        if x = 'NaN' then
            if not p_imputes then
                perform ml_pipeline_refuse(
                    format('%s is missing.', p_names[i]), 'Set prediction.missing to impute.'
                );
            end if;
            missing := missing || p_names[i];
        end if;
        numbers[i] := x;
    end loop;
    if cardinality(missing) = width then
        perform ml_pipeline_refuse('Every feature is missing.');
    end if;
    if is_as_given and (select count(*) from jsonb_object_keys(p_features)) = width then
        logged := p_features;
    else
        select jsonb_object_agg(name, kept) into logged
        from unnest(p_names, keep) as known (name, kept);
    end if;
end
$$;

-- The id of what is predicted, null for none. MLP08 for what no line of a log holds.
create or replace function ml_pipeline_read_id(p_value jsonb) returns text
language plpgsql immutable
set search_path = pg_catalog, public, pg_temp
as $$
declare
    written text := p_value #>> '{}';
begin
    if jsonb_typeof(p_value) in ('object', 'array') then
        perform ml_pipeline_refuse('An id is a text or a number.');
    elsif jsonb_typeof(p_value) = 'number' then
        written := trim_scale(p_value::numeric)::text;
    end if;
    if written ~ '[\x01-\x1f]' then
        perform ml_pipeline_refuse('An id holds a control character.');
    elsif length(written) > 1000 then
        perform ml_pipeline_refuse('An id has over 1,000 characters.');
    end if;
    return nullif(written, '');
end
$$;

-- A UUID of version 7, see `store.event_row`.
create or replace function ml_pipeline_event_id(p_now timestamptz) returns uuid
language sql volatile
set search_path = pg_catalog, public, pg_temp
as $$
    select (
        lpad(to_hex(micros / 1000), 12, '0') || '7'
        || lpad(to_hex((micros % 1000 << 12) / 1000), 3, '0')
        || substr(replace(gen_random_uuid()::text, '-', ''), 17)
    )::uuid
    from (select (extract(epoch from p_now) * 1000000)::bigint) as moment (micros)
$$;

-- Answer rows of features, an array, each with the id in `p_ids`, and log the answers. A row that
-- cannot be used raises MLP08, or with `p_lenient` gets its `error`. MLP03 where nobody serves,
-- MLP07 where the database cannot answer with who does.
create or replace function ml_pipeline_predict(
    p_model_name text, p_rows jsonb, p_ids jsonb, p_log boolean, p_lenient boolean
) returns jsonb[]
language plpgsql volatile
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
#variable_conflict use_variable
declare
    total constant integer := jsonb_array_length(p_rows);
    subject constant text := ml_pipeline_subject();
    serving text;
    v_model text;
    trouble text;
    v_features text[];
    v_kinds text[];
    v_classes text[];
    v_base text[];
    v_members text[];
    v_mean double precision[];
    v_scale double precision[];
    v_with_levels integer[];
    v_ends integer[];
    v_levels double precision[];
    threshold double precision;
    margin double precision;
    imputes boolean;
    v_places integer[];
    v_numbers double precision[];
    keys text[] := array[]::text[];
    width integer;
    count integer;
    step integer;
    flat double precision[];
    given jsonb[] := array[]::jsonb[];
    lost jsonb[] := array[]::jsonb[];
    errors text[] := array[]::text[];
    found double precision[];
    values double precision[];
    logged jsonb;
    missing text[];
    answers jsonb[] := array[]::jsonb[];
    more jsonb;
    meta jsonb;
    probabilities jsonb;
    best integer;
    second integer;
    x double precision;
    y double precision;
    sure double precision;
    written text;
    said text;
    warnings text[];
    votes jsonb;
    silent text[];
    voted text[];
    at integer;
    moment timestamptz;
    event uuid;
    id text;
begin
    select model.model_id, scoring.model_id, scoring.trouble, scoring.features, scoring.kinds,
           scoring.classes, scoring.base_classes, scoring.members, scoring.mean, scoring.scale,
           scoring.level_features, scoring.level_ends, scoring.known_levels,
           scoring.confidence_threshold, scoring.conflict_margin, scoring.imputes, scoring.places,
           scoring.numbers
    into serving, v_model, trouble, v_features, v_kinds, v_classes, v_base, v_members, v_mean,
         v_scale, v_with_levels, v_ends, v_levels, threshold, margin, imputes, v_places, v_numbers
    from model_metadata as model
    left join model_scoring as scoring on scoring.model_name = model.model_name
    where model.model_name = p_model_name and model.state = 'champion';
    if serving is null then
        raise exception using errcode = 'MLP03',
            message = format('No model serves %s yet, so nothing can be predicted.', p_model_name),
            hint = 'Register one with `ml-pipeline train --register`, or run `ml-pipeline run`.';
    elsif v_model is distinct from serving then
        raise exception using errcode = 'MLP07',
            message = format('The database has nothing to answer with for %s.', serving),
            hint = 'Run `ml-pipeline models publish`: an earlier version let it serve.';
    elsif trouble is not null then
        raise exception using errcode = 'MLP07',
            message = format('The database cannot answer with %s: %s.', serving, trouble),
            hint = 'Answer with `ml-pipeline serve`, `ml-pipeline predict` or PredictionEngine.';
    end if;

    width := cardinality(v_features);
    count := cardinality(v_classes);
    step := v_places[4];
    flat := array_fill('NaN'::double precision, array[greatest(total * width, 1)]);
    for i in 1 .. count loop
        keys := keys || (case when i = 1 then '{' else ', ' end || to_json(v_classes[i]) || ': ');
    end loop;
    for i in 1 .. total loop
        written := null;
        logged := null;
        missing := '{}';
        if p_lenient then
            begin
                select row.numbers, row.logged, row.missing into values, logged, missing
                from ml_pipeline_read_row(p_rows -> (i - 1), v_features, v_kinds, imputes) as row;
                id := ml_pipeline_read_id(p_ids -> (i - 1));
            exception when sqlstate 'MLP08' then
                written := sqlerrm;
                values := array_fill('NaN'::double precision, array[width]);
            end;
        else
            select row.numbers, row.logged, row.missing into values, logged, missing
            from ml_pipeline_read_row(p_rows -> (i - 1), v_features, v_kinds, imputes) as row;
        end if;
        for j in 1 .. width loop
            flat[(i - 1) * width + j] := values[j];
        end loop;
        given[i] := logged;
        lost[i] := to_jsonb(missing);
        errors[i] := written;
    end loop;

    begin
        if cardinality(v_mean) <> width or cardinality(v_scale) <> width or v_places[1] <> width
            or step <> count + cardinality(v_members) * (1 + cardinality(v_base))
        then
            raise exception 'its parts differ in number';
        end if;
        found := case when total = 0 then '{}'
                 else ml_pipeline_score(v_places, v_numbers, flat[1:total * width]) end;
    exception
        when query_canceled then raise;
        when others then
            raise exception using errcode = 'MLP07',
                message = format('What the database has of %s is damaged: %s.', serving, sqlerrm),
                hint = 'Run `ml-pipeline models publish`, which writes it again.';
    end;

    for i in 1 .. total loop
        at := (i - 1) * step;
        id := null;
        if errors[i] is null then
            id := ml_pipeline_read_id(p_ids -> (i - 1));
            best := 1;
            y := 0;
            sure := found[at + 1];
            written := '';
            for j in 1 .. count loop
                x := found[at + j];
                y := y + x;
                written := written || keys[j] || x;
                if x > sure then
                    sure := x;
                    best := j;
                end if;
                if not x >= -1e-6 then
                    y := 'NaN'; -- null or below 0
                end if;
            end loop;
            if y is null then
                raise exception using errcode = 'MLP07',
                    message = format('What the database has of %s is damaged.', serving),
                    hint = 'Run `ml-pipeline models publish`, which writes it again.';
            elsif not abs(y - 1) <= 1e-6 then
                errors[i] := 'The model cannot take these numbers: it answers with no '
                    'probabilities.';
                if not p_lenient then
                    perform ml_pipeline_refuse(errors[i]);
                end if;
            end if;
        end if;
        if errors[i] is not null then
            answers[i] := jsonb_build_object(
                'match_id', p_ids -> (i - 1), 'prediction', null, 'error', errors[i]
            );
            continue;
        end if;
        probabilities := (written || '}')::jsonb;
        more := '{}';
        meta := case when subject is null then null
                else jsonb_build_object('caller', subject) end;
        said := v_classes[best];
        if sure < threshold then
            more := jsonb_build_object('blocked_reason', format(
                'confidence %s is under %s', to_char(sure, 'FM0.000'),
                ml_pipeline_short(threshold)
            ));
        elsif cardinality(v_members) > 0 then
            second := 0;
            for j in 1 .. count loop
                if j <> best and (second = 0 or found[at + j] > found[at + second]) then
                    second := j;
                end if;
            end loop;
            if sure - found[at + second] < margin then
                more := jsonb_build_object(
                    'blocked_reason', format(
                        'the two best classes differ by less than %s', ml_pipeline_short(margin)
                    ),
                    'alternate_outcome', v_classes[second]
                );
            end if;
        end if;
        if more <> '{}' then
            said := 'UNCERTAIN';
            more := more || jsonb_build_object('best_guess', v_classes[best]);
            meta := coalesce(meta, '{}') || jsonb_build_object('best_guess', v_classes[best]);
        end if;
        if cardinality(v_members) > 0 then
            votes := '{}';
            silent := '{}';
            voted := '{}';
            for j in 1 .. cardinality(v_members) loop
                second := at + count + (j - 1) * (1 + cardinality(v_base)) + 1;
                if found[second] = 'NaN' then
                    silent := silent || v_members[j];
                    continue;
                end if;
                best := 1;
                for k in 2 .. cardinality(v_base) loop
                    if found[second + k] > found[second + best] then
                        best := k;
                    end if;
                end loop;
                voted := voted || v_base[best];
                votes := votes || jsonb_build_object(v_members[j], jsonb_build_object(
                    'prediction', v_base[best], 'confidence', found[second + best],
                    'weight', found[second]
                ));
            end loop;
            more := more || jsonb_build_object('ensemble', jsonb_build_object(
                'members', votes, 'missing', silent,
                'agree', voted[1] = all (voted) and cardinality(voted) > 0
            ));
        end if;
        warnings := '{}';
        for j in 1 .. width loop
            x := flat[(i - 1) * width + j];
            if x <> 'NaN' and abs(x - v_mean[j]) > 8 * v_scale[j] then
                warnings := warnings || format(
                    '%s = %s lies %s standard deviations from the rows that the model was trained '
                    'on', v_features[j], ml_pipeline_short(x),
                    case when abs(x - v_mean[j]) < 9e18 * v_scale[j]
                         then round(abs(x - v_mean[j]) / v_scale[j])::bigint::text
                         else ml_pipeline_short(abs(x - v_mean[j]) / v_scale[j]) end
                );
            end if;
        end loop;
        for j in 1 .. cardinality(v_with_levels) loop
            x := flat[(i - 1) * width + v_with_levels[j]];
            if x <> 'NaN' and x <> all (v_levels[coalesce(v_ends[j - 1], 0) + 1:v_ends[j]]) then
                written := left(given[i] ->> v_features[v_with_levels[j]], 40);
                warnings := warnings || format(
                    '%s = %s is a level that training had not: it is answered as a rare one',
                    v_features[v_with_levels[j]],
                    case when strpos(written, '''') = 0 then '''' || written || ''''
                         else to_json(written)::text end
                );
            end if;
        end loop;
        if cardinality(warnings) > 0 then
            more := more || jsonb_build_object('warnings', warnings);
        end if;
        moment := clock_timestamp();
        event := ml_pipeline_event_id(moment);
        if p_log then
            insert into evaluation_log (
                event_id, "timestamp", event_type, model_name, model_id, match_id, prediction,
                confidence, features, probabilities, metadata
            )
            values (
                event, moment, 'prediction', p_model_name, serving, id, said, least(sure, 1),
                given[i], probabilities, meta
            );
        end if;
        answers[i] := jsonb_build_object(
            'event_id', event, 'match_id', id, 'prediction', said, 'confidence', sure,
            'confidence_level', case when sure < threshold then 'low'
                when sure >= greatest(0.7, threshold) then 'high' else 'medium' end,
            'probabilities', probabilities, 'imputed', lost[i], 'model_id', serving,
            'timestamp', to_char(moment, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'),
            'status', 'completed'
        ) || more;
    end loop;
    return answers;
end
$$;

select ml_pipeline_lock(
    'ml_pipeline_subject', 'ml_pipeline_short', 'ml_pipeline_shown', 'ml_pipeline_refuse',
    'ml_pipeline_is_blank', 'ml_pipeline_read_number', 'ml_pipeline_level', 'ml_pipeline_moment',
    'ml_pipeline_iso', 'ml_pipeline_read_cell', 'ml_pipeline_read_row', 'ml_pipeline_read_id',
    'ml_pipeline_event_id', 'ml_pipeline_predict'
);

-- What apps call. Only these may be granted to signed-in users (`init --grant`), and what was
-- granted stays when this file is applied again; somebody's own functions of these names are not
-- touched. Default privileges on Supabase give a new function to everyone: that is taken back the
-- first time.
create or replace function ml_pipeline_open(p_function text, p_version integer) returns void
language plpgsql
set search_path = pg_catalog, public, pg_temp
as $$
declare
    grantee text;
    was_there constant boolean := exists (
        select from ml_pipeline_schema_version where version = p_version
    );
begin
    execute format('revoke all on function %s from public', p_function::regprocedure);
    for grantee in
        select rolname from pg_roles
        where rolname = 'anon' or rolname = 'authenticated' and not was_there
    loop
        execute format('revoke all on function %s from %I', p_function::regprocedure, grantee);
    end loop;
    if exists (select from pg_roles where rolname = 'service_role') then
        execute format('grant execute on function %s to service_role', p_function::regprocedure);
    end if;
end
$$;

select ml_pipeline_lock('ml_pipeline_open');

-- Answer one row with the model that serves `model_name`, and log the answer with its features.
-- `features` is an object of names and values, or an array in the model's order; `entity_id` is the
-- id of what is predicted, by which its outcome may be told. Returns what `ml-pipeline predict`
-- prints.
create or replace function predict(
    model_name text, features jsonb, entity_id text default null, log boolean default true
) returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    answers jsonb[];
begin
    if pg_column_size(features) > 1000000 then
        perform public.ml_pipeline_refuse('The features are larger than 1 MB.');
    end if;
    answers := public.ml_pipeline_predict(
        model_name, jsonb_build_array(features), jsonb_build_array(entity_id), coalesce(log, true),
        false
    );
    return answers[1];
end
$$;

-- Answer up to 10,000 rows, an array of what `predict` takes; an object may hold its id as
-- `entity_id` or `match_id` beside the features. A row that cannot be used gets its `error`, and the
-- rest goes on.
create or replace function predict_batch(model_name text, rows jsonb, log boolean default true)
returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if coalesce(jsonb_typeof(rows), 'null') <> 'array' then
        perform public.ml_pipeline_refuse('The rows are no array.');
    elsif jsonb_array_length(rows) > 10000 then
        perform public.ml_pipeline_refuse(
            format('%s rows are over 10,000.', jsonb_array_length(rows)), 'Send them in parts.'
        );
    elsif pg_column_size(rows) > 50000000 then
        perform public.ml_pipeline_refuse('The rows are larger than 50 MB.', 'Send them in parts.');
    end if;
    return to_jsonb(public.ml_pipeline_predict(
        model_name, rows, (
            select coalesce(jsonb_agg(
                coalesce(nullif(item -> 'entity_id', 'null'), item -> 'match_id', 'null')
                order by place
            ), '[]')
            from jsonb_array_elements(rows) with ordinality as given (item, place)
        ), coalesce(log, true), true
    ));
end
$$;

select ml_pipeline_open('public.predict(text, jsonb, text, boolean)', 44),
       ml_pipeline_open('public.predict_batch(text, jsonb, boolean)', 44);

insert into ml_pipeline_schema_version (version, name) values (44, 'predictions')
on conflict (version) do nothing;

notify pgrst, 'reload schema';
