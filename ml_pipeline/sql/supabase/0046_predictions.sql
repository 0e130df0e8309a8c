-- Predictions by `rpc('predict', …)`: read, scored, judged and logged in one transaction. So are
-- corrections by `rpc('correct', …)`: what an incumbent, a classifier that is not ours, answered, as
-- the model that serves corrects it.

-- A number from 0 to 1, rounding forgiven; null for another, and for what is none.
create or replace function ml_pipeline_share(p_value jsonb) returns double precision
language plpgsql immutable
set search_path = pg_catalog, public, pg_temp
as $$
declare
    kind constant text := jsonb_typeof(p_value);
    number numeric;
begin
    if kind = 'number' then
        number := p_value::numeric;
    elsif kind = 'boolean' then
        number := case when p_value::boolean then 1 else 0 end;
    elsif kind = 'string' and p_value #>> '{}' ~
        '^\s*[+-]?([0-9]{1,20}\.?[0-9]{0,60}|\.[0-9]{1,60})([eE][+-]?[0-9]{1,3})?\s*$'
    then
        number := btrim(p_value #>> '{}', E' \t\n\x0b\x0c\r')::numeric;
    end if;
    if number is null or not number between -1e-6 and 1 + 1e-6 then
        return null;
    end if;
    return case when number < 1e-300 then 0 else least(number, 1)::double precision end;
end
$$;

-- The label that a text means to a model of those classes, null for none. As `Labels.find` has it:
-- beside the spellings of the settings the classes are spelt as they are called.
create or replace function ml_pipeline_read_class(
    p_text text, p_classes text[], p_labels jsonb, p_is_open boolean
) returns text
language plpgsql immutable
set search_path = pg_catalog, public, pg_temp
as $$
declare
    whole constant text := '^(-*[0-9]+)[.]0+$';
    written constant text := normalize(p_text);
    trimmed constant text := btrim(written, E' \t\n\x0b\x0c\r\x1c\x1d\x1e\x1f\u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000');
    folded constant text := regexp_replace(lower(trimmed), whole, '\1');
    spelt text[] := array[folded];
    label text;
begin
    foreach label in array array[written, trimmed] loop
        if p_labels -> 'exact' ? label then
            return p_labels -> 'exact' ->> label;
        end if;
        select min(name) into label from unnest(p_classes) as name where normalize(name) = label;
        if label is not null then
            return label;
        end if;
    end loop;
    if p_labels -> 'folded' ? folded then
        return p_labels -> 'folded' ->> folded;
    end if;
    -- Of two classes that are 0 and 1, or false and true, either spelling will do.
    if array(select lower(name) from unnest(p_classes) as name order by 1) in (
        array['0', '1'], array['false', 'true']
    ) then
        spelt := spelt || case folded when 'true' then '1' when 'false' then '0'
                                      when '1' then 'true' when '0' then 'false' end;
    end if;
    select min(name) into label from unnest(p_classes) as name
    where regexp_replace(lower(normalize(name)), whole, '\1') = any (spelt)
    having count(*) = 1;
    if label is null and p_is_open and trimmed <> 'UNCERTAIN'
        and lower(trimmed) <> all (array['', 'nan', 'none', 'null', '<na>'])
    then
        return trimmed;
    end if;
    return label;
end
$$;

-- An incumbent's probability of each of the classes, which sum to 1. The answer has a probability
-- for each class, or `prediction` and `confidence`. MLP08 for one that is neither. See
-- `store.inputs.incumbents`.
create or replace function ml_pipeline_read_incumbent(
    p_answer jsonb, p_classes text[], p_labels jsonb, p_is_open boolean
) returns double precision[]
language plpgsql immutable
set search_path = pg_catalog, public, pg_temp
as $$
#variable_conflict use_variable
declare
    -- What a class has that an answer does not name.
    least_of_all constant double precision := 1e-3::double precision;
    count constant integer := cardinality(p_classes);
    is_label constant boolean := coalesce(jsonb_typeof(p_answer -> 'prediction') = 'string', false);
    -- What is known of the classes, by name.
    found jsonb := '{}'::jsonb;
    label text;
    name text;
    cell jsonb;
    x double precision;
    total double precision;
    filled double precision[] := array[]::double precision[];
    lacking text;
    hint text;
begin
    if jsonb_typeof(p_answer) <> 'object' then
        perform ml_pipeline_refuse(
            format(
                'probabilities is an object of labels and numbers, not %s.',
                ml_pipeline_shown(p_answer)
            ),
            'Write it as {"H": 0.6, "D": 0.3, "A": 0.1}.'
        );
    end if;
    hint := case when p_is_open
        then 'It reads as a missing value: name it in data.classes if it is a class.'
        else 'Known labels: ' || array_to_string(p_classes, ', ') || '; give other spellings their '
            'class in data.labels, and name a new class in data.classes.' end;
    if is_label then
        label := ml_pipeline_read_class(p_answer ->> 'prediction', p_classes, p_labels, p_is_open);
        x := ml_pipeline_share(p_answer -> 'confidence');
        if label is null then
            perform ml_pipeline_refuse(
                format(
                    'The incumbent''s prediction %s is no label.',
                    ml_pipeline_shown(p_answer -> 'prediction')
                ),
                hint
            );
        elsif coalesce(p_answer -> 'confidence', 'null') = 'null' then
            perform ml_pipeline_refuse(
                'The incumbent''s prediction has no confidence.',
                'Give its confidence from 0 to 1, or its probabilities.'
            );
        elsif x is null then
            perform ml_pipeline_refuse(format(
                'A confidence is a number from 0 to 1, not %s.',
                ml_pipeline_shown(p_answer -> 'confidence')
            ));
        end if;
        found := jsonb_build_object(label, x);
        -- The other classes share the rest.
        for i in 1 .. count loop
            if label = any (p_classes) and p_classes[i] <> label then
                found := found || jsonb_build_object(p_classes[i], (1 - x) / (count - 1));
            end if;
        end loop;
    else
        total := 0;
        for name, cell in select one.key, one.value from jsonb_each(p_answer) as one loop
            label := ml_pipeline_read_class(name, p_classes, p_labels, p_is_open);
            x := ml_pipeline_share(cell);
            if label is null then
                perform ml_pipeline_refuse(
                    format('probabilities name %s, which is no label.', to_json(name)), hint
                );
            elsif x is null and abs((
                select sum(one.value::numeric) from jsonb_each(p_answer) as one
                where jsonb_typeof(one.value) = 'number'
            ) - 100) <= 1 then
                perform ml_pipeline_refuse(
                    'probabilities are numbers from 0 to 1, and these are percent.',
                    'Divide them by 100.'
                );
            elsif x is null then
                perform ml_pipeline_refuse(format(
                    'A probability of %s is a number from 0 to 1, not %s.', label,
                    ml_pipeline_shown(cell)
                ));
            end if;
            found := found || jsonb_build_object(
                label, coalesce((found ->> label)::double precision, 0) + x
            );
            total := total + x;
        end loop;
        if abs(total - 1) > 1e-6 then
            select string_agg(class, ', ' order by place) into lacking
            from unnest(p_classes) with ordinality as known (class, place) where not found ? class;
            perform ml_pipeline_refuse(
                format(
                    'probabilities sum to %s, not to 1 (within 0.000001).%s',
                    trim_scale(round(total::numeric, 9)),
                    coalesce(format(' They do not name %s.', lacking), '')
                )
            );
        end if;
    end if;

    total := 0;
    for i in 1 .. count loop
        x := (found ->> p_classes[i])::double precision;
        filled[i] := coalesce(x, least_of_all);
        total := total + coalesce(x, 0);
    end loop;
    if total <= least_of_all then -- it says nothing of these
        filled := array_fill(1.0::double precision, array[count]);
    end if;
    total := 0;
    for i in 1 .. count loop
        total := total + filled[i];
    end loop;
    for i in 1 .. count loop
        filled[i] := filled[i] / total;
    end loop;
    return filled;
end
$$;

-- A number with six digits, as sentences have it.
create or replace function ml_pipeline_short(p_number double precision) returns text
language plpgsql immutable
set search_path = pg_catalog, public, pg_temp
set extra_float_digits = -9
as $$
begin
    return p_number::text;
end
$$;

-- A UUID of version 7, see `store.event_row`.
create or replace function ml_pipeline_event_id(p_now timestamptz) returns uuid
language plpgsql volatile
set search_path = pg_catalog, public, pg_temp
as $$
declare
    micros constant bigint := extract(epoch from p_now) * 1000000;
begin
    return (
        lpad(to_hex(micros / 1000), 12, '0') || '7'
        || lpad(to_hex((micros % 1000 << 12) / 1000), 3, '0')
        || substr(gen_random_uuid()::text, 20)
    )::uuid;
end
$$;

-- Answer rows of features, an array, each with the id in `p_ids`, and log the answers; with
-- `p_incumbent`, the answer of an incumbent, as the model corrects it. A row that cannot be used
-- raises MLP08, or with `p_lenient` gets its `error`. MLP03 where nobody serves, MLP07 where the
-- database cannot answer with who does, MLP08 for a model that corrects an incumbent without its
-- answer, and for another with it.
create or replace function ml_pipeline_answer(
    p_model_name text, p_rows jsonb, p_ids jsonb, p_log boolean, p_lenient boolean,
    p_incumbent jsonb
) returns jsonb[]
language plpgsql volatile
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
#variable_conflict use_variable
declare
    total constant integer := jsonb_array_length(p_rows);
    subject text;
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
    keys text[];
    width integer;
    own integer;
    count integer;
    known jsonb;
    is_open boolean;
    algorithm text;
    shares double precision[];
    incumbent jsonb;
    step integer;
    flat double precision[];
    given jsonb[];
    lost jsonb[];
    errors text[];
    found double precision[];
    values double precision[];
    ids text[];
    read record;
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
begin
    select model.model_id, scoring.model_id, scoring.trouble, scoring.features, scoring.kinds,
           scoring.classes, scoring.base_classes, scoring.members, scoring.mean, scoring.scale,
           scoring.level_features, scoring.level_ends, scoring.known_levels,
           scoring.confidence_threshold, scoring.conflict_margin, scoring.imputes, scoring.places,
           scoring.numbers, scoring.labels, scoring.is_open, model.algorithm
    into serving, v_model, trouble, v_features, v_kinds, v_classes, v_base, v_members, v_mean,
         v_scale, v_with_levels, v_ends, v_levels, threshold, margin, imputes, v_places, v_numbers,
         known, is_open, algorithm
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
    -- The incumbent's probabilities come last in the row of a model that corrects them.
    own := width - count;
    if array_to_string(v_features[own + 1:], E'\n')
        <> 'incumbent:' || array_to_string(v_classes, E'\nincumbent:')
    then
        own := width;
    end if;
    if own = width and p_incumbent is not null then
        perform ml_pipeline_refuse(
            format(
                '%s stands on a base of its own (%s) and corrects nobody''s answers.', serving,
                algorithm
            ),
            'Ask it without the incumbent''s answer, by predict; a base that corrects one is made '
            'by training.algorithm: Incumbent and `ml-pipeline train --register`.'
        );
    elsif own < width and p_incumbent is null then
        perform ml_pipeline_refuse(
            format('%s corrects the answers of an incumbent, and none was given.', serving),
            'Call correct with its probabilities, or its prediction and its confidence, for each '
            'row.'
        );
    elsif own < width then
        shares := ml_pipeline_read_incumbent(p_incumbent, v_classes, known, is_open);
        select jsonb_object_agg(class.name, class.share) into incumbent
        from unnest(v_classes, shares) as class (name, share);
    end if;
    flat := array_fill('NaN'::double precision, array[greatest(total * width, 1)]);
    for i in 1 .. count loop
        keys := keys || (case when i = 1 then '{' else ', ' end || to_json(v_classes[i]) || ': ');
    end loop;
    v_kinds := v_kinds[1:own];
    if p_log then
        subject := ml_pipeline_subject();
    end if;
    for i in 1 .. total loop
        errors[i] := null;
        begin
            read := ml_pipeline_read_row(p_rows -> (i - 1), v_features[1:own], v_kinds, imputes);
            values := read.numbers || shares;
            for j in 1 .. width loop
                flat[(i - 1) * width + j] := values[j];
            end loop;
            given[i] := read.logged;
            lost[i] := to_jsonb(read.missing);
            ids[i] := case when p_ids -> (i - 1) <> 'null'
                      then ml_pipeline_read_id(p_ids -> (i - 1)) end;
        exception when sqlstate 'MLP08' then
            if not p_lenient then
                raise;
            end if;
            errors[i] := sqlerrm;
        end;
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
        if errors[i] is null then
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
        if incumbent is not null then
            more := more || jsonb_build_object('incumbent', incumbent);
            meta := coalesce(meta, '{}') || jsonb_build_object('incumbent', incumbent);
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
                event, moment, 'prediction', p_model_name, serving, ids[i], said, least(sure, 1),
                given[i], probabilities, meta
            );
        end if;
        answers[i] := jsonb_build_object(
            'event_id', event, 'match_id', ids[i], 'prediction', said, 'confidence', sure,
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
    'ml_pipeline_share', 'ml_pipeline_read_class', 'ml_pipeline_read_incumbent',
    'ml_pipeline_short', 'ml_pipeline_event_id', 'ml_pipeline_answer'
);

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
    answers := public.ml_pipeline_answer(
        model_name, jsonb_build_array(features), jsonb_build_array(entity_id), coalesce(log, true),
        false, null
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
    return to_jsonb(public.ml_pipeline_answer(
        model_name, rows, (
            select coalesce(jsonb_agg(
                coalesce(nullif(item -> 'entity_id', 'null'), item -> 'match_id', 'null')
                order by place
            ), '[]')
            from jsonb_array_elements(rows) with ordinality as given (item, place)
        ), coalesce(log, true), true, null
    ));
end
$$;

-- Correct what an incumbent, a classifier that is not ours, answered for one row: with
-- `probabilities`, an object of its classes that sums to 1, or with a `prediction` and its
-- `confidence` from 0 to 1, of which the other classes share the rest. The model that serves is one
-- whose base is the incumbent. What is logged is the corrected answer, and the incumbent's beside
-- it in the metadata. Returns what `ml-pipeline predict --incumbent` prints.
create or replace function correct(
    model_name text, features jsonb, entity_id text default null, log boolean default true,
    probabilities jsonb default null, prediction text default null,
    confidence double precision default null
) returns jsonb
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    given constant jsonb := nullif(probabilities, 'null');
    answers jsonb[];
begin
    if pg_column_size(features) > 1000000 then
        perform public.ml_pipeline_refuse('The features are larger than 1 MB.');
    elsif pg_column_size(given) > 1000000 then
        perform public.ml_pipeline_refuse('The probabilities are larger than 1 MB.');
    elsif (given is null) = (prediction is null) or (given is null) = (confidence is null) then
        perform public.ml_pipeline_refuse(
            'Give the incumbent''s probabilities, or its prediction and its confidence.',
            'Write it as probabilities {"H": 0.6, "D": 0.3, "A": 0.1}, or as prediction "H" and '
            'confidence 0.6.'
        );
    end if;
    answers := public.ml_pipeline_answer(
        model_name, jsonb_build_array(features), jsonb_build_array(entity_id), coalesce(log, true),
        false, coalesce(
            given, jsonb_build_object('prediction', prediction, 'confidence', confidence)
        )
    );
    return answers[1];
end
$$;

select ml_pipeline_open('public.predict(text, jsonb, text, boolean)'),
       ml_pipeline_open('public.predict_batch(text, jsonb, boolean)'),
       ml_pipeline_open(
           'public.correct(text, jsonb, text, boolean, jsonb, text, double precision)'
       );

insert into ml_pipeline_schema_version (version, name) values (46, 'predictions')
on conflict (version) do nothing;

notify pgrst, 'reload schema';
