-- Outcomes and labels by `rpc('record_outcome', …)` and `rpc('add_label', …)`.

-- Whether the caller may do everything: with the service role's key, or with a connection of their
-- own. Everybody else has to do with what they predicted themselves.
create or replace function ml_pipeline_is_trusted() returns boolean
language sql stable
set search_path = pg_catalog, public, pg_temp
as $$
    select coalesce(
        nullif(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role', ''),
        nullif(current_setting('request.jwt.claim.role', true), ''), 'service_role'
    ) = 'service_role'
$$;

-- The label that a text means, by what is published of the model name. MLP08 for none, MLP07 where
-- nothing is published.
create or replace function ml_pipeline_read_label(p_model_name text, p_text text) returns text
language plpgsql stable
set search_path = pg_catalog, public, pg_temp
as $$
declare
    known jsonb;
    is_any boolean;
    label text;
begin
    select labels, is_open into known, is_any
    from model_scoring where model_name = p_model_name;
    if known is null then
        raise exception using errcode = 'MLP07',
            message = format('The database does not know the labels of %s.', p_model_name),
            hint = 'Run `ml-pipeline models publish`, or record it with `ml-pipeline outcome` or '
                '`ml-pipeline labels add`.';
    end if;
    label := ml_pipeline_label(normalize(p_text), known);
    if label is null or label = 'UNCERTAIN' or not (
        exists (select from jsonb_each_text(known -> 'exact') as one where one.value = label)
        or is_any and lower(label) <> all (array['', 'nan', 'none', 'null', '<na>'])
    ) then
        perform ml_pipeline_refuse(
            format('%s is no label.', coalesce(to_json(p_text)::text, 'Nothing')),
            case when is_any
                then 'It reads as a missing value: name it in data.classes if it is a class.'
                else 'Known labels: ' || (
                    select string_agg(distinct one.value, ', ')
                    from jsonb_each_text(known -> 'exact') as one
                ) || '.' end
        );
    end if;
    return label;
end
$$;

select ml_pipeline_lock('ml_pipeline_is_trusted', 'ml_pipeline_read_label');

-- As `record_outcome` below says.
create or replace function ml_pipeline_record_outcome(
    model_name text, actual text, event_id uuid, entity_id text, correct boolean,
    known_at timestamptz
) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
#variable_conflict use_column
declare
    label constant text := ml_pipeline_read_label(ml_pipeline_record_outcome.model_name, actual);
    known constant jsonb := (
        select labels from model_scoring as scoring
        where scoring.model_name = ml_pipeline_record_outcome.model_name
    );
    tolerance constant interval := (
        select scoring.tolerance from model_scoring as scoring
        where scoring.model_name = ml_pipeline_record_outcome.model_name
    );
    subject constant text := ml_pipeline_subject();
    is_trusted constant boolean := ml_pipeline_is_trusted();
    is_dated constant boolean := ml_pipeline_record_outcome.known_at is not null;
    moment constant timestamptz := coalesce(ml_pipeline_record_outcome.known_at, clock_timestamp());
    span constant interval := case when is_dated then interval '0' else tolerance end;
    event evaluation_log;
    total integer := 0;
    due integer := 0;
    recorded integer := 0;
    corrected integer := 0;
    already integer := 0;
    latest timestamptz; -- the newest prediction whose outcome this is
    made timestamptz; -- the newest of those that have another one
    settled timestamptz; -- the first time at which one of these became known
    others uuid[] := array[]::uuid[];
begin
    if num_nonnulls(ml_pipeline_record_outcome.event_id, ml_pipeline_record_outcome.entity_id) <> 1 then
        perform ml_pipeline_refuse('Give event_id or entity_id, and not both.');
    elsif moment > clock_timestamp() + tolerance then
        perform ml_pipeline_refuse(format('known_at %s is in the future.', moment));
    end if;
    for event in
        select * from evaluation_log as log
        where log.model_name = ml_pipeline_record_outcome.model_name and log.prediction is not null
          and (log.event_id = ml_pipeline_record_outcome.event_id
               or log.match_id = ml_pipeline_record_outcome.entity_id)
          and (is_trusted or log.metadata ->> 'caller' = subject)
        order by log.event_id
        for update
    loop
        total := total + 1;
        continue when event."timestamp" > moment and event."timestamp" >= moment + span;
        due := due + 1;
        if event.actual_result is null then
            perform record_evaluation_outcomes(
                jsonb_build_object(event.event_id::text, label),
                greatest(moment, event."timestamp")
            );
            recorded := recorded + 1;
            latest := greatest(latest, event."timestamp");
        elsif ml_pipeline_label(event.actual_result, known) = label then
            already := already + 1;
            latest := greatest(latest, event."timestamp");
            if is_dated and correct and event.known_at <> moment then
                update evaluation_log as log set evaluated_at = moment
                where log.event_id = event.event_id;
                already := already - 1;
                corrected := corrected + 1;
            end if;
        else
            others := others || event.event_id;
        end if;
    end loop;
    if total = 0 then
        raise exception using errcode = 'MLP03',
            message = format(
                'There is no prediction %s of %s.',
                coalesce(ml_pipeline_record_outcome.event_id::text, ml_pipeline_record_outcome.entity_id),
                ml_pipeline_record_outcome.model_name
            );
    elsif due = 0 then
        raise exception using errcode = 'MLP04',
            message = format(
                'The prediction was made after this outcome was known (%s): it is not its outcome.',
                moment
            );
    end if;

    -- Whoever is predicted again and again has an outcome each time: an earlier one keeps its own.
    select array_agg(log.event_id order by log.event_id), max(log."timestamp"), min(log.known_at)
    into others, made, settled
    from evaluation_log as log
    where log.event_id = any (others) and (latest is null or latest <= log.known_at);
    if others is not null then
        if not correct then
            raise exception using errcode = 'MLP04',
                message = format('Another outcome stands; %s was not recorded.', label),
                hint = 'If the recorded outcome is wrong, repeat the call with correct := true: it '
                    'is replaced, and kept in the event''s metadata.';
        elsif made > settled then
            raise exception using errcode = 'MLP04',
                message = format(
                    '%s was predicted again after an outcome, and has several: which of them is '
                    'wrong?', ml_pipeline_record_outcome.entity_id
                ),
                hint = 'Correct each by event_id.';
        end if;
        update evaluation_log as log
        set actual_result = label,
            evaluated_at = case when is_dated then moment else log.evaluated_at end
        where log.event_id = any (others);
        corrected := corrected + cardinality(others);
    end if;
    return jsonb_build_object(
        'status', 'completed', 'recorded', recorded, 'corrected', corrected,
        'already_known', already
    );
end
$$;

-- SHA-1, which a UUID of version 5 is made of and PostgreSQL lacks (FIPS 180-4, 6.1).
create or replace function ml_pipeline_sha1(p_bytes bytea) returns bytea
language plpgsql immutable
set search_path = pg_catalog, public, pg_temp
as $$
declare
    bits constant bigint := 4294967295;
    size constant integer := octet_length(p_bytes);
    padded constant bytea := p_bytes || '\x80'::bytea
        || decode(repeat('00', (119 - size % 64) % 64), 'hex')
        || decode(lpad(to_hex(size::bigint * 8), 16, '0'), 'hex');
    w bigint[];
    h bigint[] := array[1732584193, 4023233417, 2562383102, 271733878, 3285377520];
    v bigint[];
    f bigint;
    k bigint;
    x bigint;
begin
    for block in 0 .. octet_length(padded) / 64 - 1 loop
        for i in 0 .. 15 loop
            w[i] := ('x' || encode(substr(padded, block * 64 + i * 4 + 1, 4), 'hex'))
                ::bit(32)::bigint & bits;
        end loop;
        for i in 16 .. 79 loop
            x := w[i - 3] # w[i - 8] # w[i - 14] # w[i - 16];
            w[i] := ((x << 1) | (x >> 31)) & bits;
        end loop;
        v := h;
        for i in 0 .. 79 loop
            if i < 20 then
                f := (v[2] & v[3]) | ((v[2] # bits) & v[4]);
                k := 1518500249;
            elsif i < 40 then
                f := v[2] # v[3] # v[4];
                k := 1859775393;
            elsif i < 60 then
                f := (v[2] & v[3]) | (v[2] & v[4]) | (v[3] & v[4]);
                k := 2400959708;
            else
                f := v[2] # v[3] # v[4];
                k := 3395469782;
            end if;
            x := ((((v[1] << 5) | (v[1] >> 27)) & bits) + f + v[5] + k + w[i]) & bits;
            v := array[x, v[1], ((v[2] << 30) | (v[2] >> 2)) & bits, v[3], v[4]];
        end loop;
        for i in 1 .. 5 loop
            h[i] := (h[i] + v[i]) & bits;
        end loop;
    end loop;
    return decode((
        select string_agg(lpad(to_hex(part), 8, '0'), '' order by place)
        from unnest(h) with ordinality as parts (part, place)
    ), 'hex');
end
$$;

-- The id of the row of a label: a UUID, else one that is made of what is labelled, in the space of
-- URLs (RFC 9562, version 5).
create or replace function ml_pipeline_label_id(p_model_name text, p_content text) returns uuid
language plpgsql immutable
set search_path = pg_catalog, public, pg_temp
as $$
declare
    hex text;
begin
    if p_content ~* '^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$' then
        return p_content::uuid;
    end if;
    hex := encode(ml_pipeline_sha1(
        '\x6ba7b8119dad11d180b400c04fd430c8'::bytea
        || convert_to(format('ml_pipeline:%s:%s', p_model_name, p_content), 'UTF8')
    ), 'hex');
    return (
        substr(hex, 1, 12) || '5' || substr(hex, 14, 3)
        || to_hex(('x' || substr(hex, 17, 1))::bit(4)::integer & 3 | 8) || substr(hex, 18, 15)
    )::uuid;
end
$$;

select ml_pipeline_lock('ml_pipeline_sha1', 'ml_pipeline_label_id');

-- As `add_label` below says.
create or replace function ml_pipeline_add_label(
    model_name text, label text, id text, features jsonb, source text
) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
#variable_conflict use_column
declare
    meant constant text := ml_pipeline_read_label(ml_pipeline_add_label.model_name, ml_pipeline_add_label.label);
    subject constant text := ml_pipeline_subject();
    is_trusted constant boolean := ml_pipeline_is_trusted();
    name constant text := nullif(ml_pipeline_read_id(to_jsonb(btrim(ml_pipeline_add_label.id))), '');
    scoring model_scoring;
    given jsonb := nullif(features, 'null');
    cell jsonb;
    x double precision;
    content text;
    row_id uuid;
    known ml_data;
begin
    select * into scoring from model_scoring as published
    where published.model_name = ml_pipeline_add_label.model_name;
    if name is null and given is null then
        perform ml_pipeline_refuse('Give id or features.');
    elsif given is not null and jsonb_typeof(given) <> 'object' then
        perform ml_pipeline_refuse('The features are no object of names and values.');
    elsif pg_column_size(given) > 1000000 then
        perform ml_pipeline_refuse('The features are larger than 1 MB.');
    elsif source is null or source ~ '[\x01-\x1f]' or length(source) > 200 then
        perform ml_pipeline_refuse('source is no short text.');
    elsif given is not null and scoring.trouble is not null then
        raise exception using errcode = 'MLP07',
            message = format('The database cannot read features: %s.', scoring.trouble),
            hint = 'Give the id alone, or add the label with `ml-pipeline labels add`.';
    end if;

    content := coalesce(name, (
        select '{' || string_agg(to_json(key)::text || ': ' || case
            when jsonb_typeof(value) = 'number' and strpos(value::text, '.') > 0
            then (value::double precision)::text else value::text end,
            ', ' order by key collate "C") || '}'
        from jsonb_each(given)
    ));
    row_id := ml_pipeline_label_id(ml_pipeline_add_label.model_name, content);
    if not is_trusted and not exists (
        select from evaluation_log as log
        where log.event_id = row_id and log.model_name = ml_pipeline_add_label.model_name
          and log.metadata ->> 'caller' = subject
        union all
        select from ml_data as data where data.id = row_id and data.metadata ->> 'caller' = subject
    ) then
        -- Whatever they call it, it stands in nobody else's way.
        row_id := ml_pipeline_label_id(
            ml_pipeline_add_label.model_name, concat(content, ' of ', subject)
        );
    elsif scoring.shares_labels and exists (
        select from ml_data as data
        where data.id = row_id and data.model_name <> ml_pipeline_add_label.model_name
    ) then
        row_id := ml_pipeline_label_id(
            ml_pipeline_add_label.model_name, concat('id ', row_id)
        );
    end if;
    perform pg_advisory_xact_lock(hashtextextended('ml_pipeline.label:' || row_id, 0));
    select * into known from ml_data as data where data.id = row_id for update;
    if known.id is not null and not is_trusted
        and (known.metadata ->> 'caller' = subject) is not true
    then
        raise exception using errcode = 'MLP03', message = 'There is no such prediction.';
    elsif known.label is not null then
        if ml_pipeline_label(known.label, scoring.labels) = meant then
            return jsonb_build_object('status', 'already_known', 'id', row_id, 'label', meant);
        end if;
        raise exception using errcode = 'MLP04',
            message = format('The label %s stands.', known.label),
            hint = format(
                'Whoever is right: correct the row %s of ml_data, or leave this one out.', row_id
            );
    end if;

    if given is null and known.id is null then
        select log.features into given
        from evaluation_log as log
        where log.model_name = ml_pipeline_add_label.model_name and log.features is not null
          and (log.match_id = name or log.event_id::text = lower(name))
          and (is_trusted or log.metadata ->> 'caller' = subject)
        order by log."timestamp" desc, log.event_id desc
        limit 1;
        if given is null then
            raise exception using errcode = 'MLP03',
                message = 'Nothing says what it is the label of.',
                hint = 'Give its features, or the id of a logged prediction.';
        end if;
    elsif given is not null then
        for i in 1 .. cardinality(scoring.features) loop
            cell := given -> scoring.features[i];
            continue when cell is null;
            if cardinality(scoring.kinds) = 0 or scoring.kinds[i] = 'number' then
                x := ml_pipeline_read_number(cell, scoring.features[i]);
                cell := case when x = 'NaN' then 'null' else to_jsonb(x) end;
            else
                select read.kept into cell
                from ml_pipeline_read_cell(scoring.kinds[i], cell, scoring.features[i]) as read;
            end if;
            given := case when cell = 'null' then given - scoring.features[i]
                     else given || jsonb_build_object(scoring.features[i], cell) end;
        end loop;
    end if;
    insert into ml_data as data (
        id, created_at, model_name, query, features, label, source, metadata
    )
    values (
        row_id, clock_timestamp(), ml_pipeline_add_label.model_name, given ->> 'query', given, meant, source,
        jsonb_strip_nulls(jsonb_build_object('id', name, 'caller', subject))
    )
    on conflict (id) do update set label = excluded.label;
    return jsonb_build_object(
        'status', case when known.id is null then 'added' else 'filled' end, 'id', row_id,
        'label', meant
    );
end
$$;

-- As in 0026, and labels go by the id that they were given with, too: their row's own is made of it.
create or replace function erase_evaluation_events(
    p_model_name text, p_event_ids text[], p_match_ids text[], p_dry_run boolean default false
) returns jsonb
language plpgsql
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
declare
    events uuid[];
    labels uuid[];
begin
    select coalesce(array_agg(event_id order by event_id), '{}') into events
    from evaluation_log
    where model_name = p_model_name
      and (event_id::text = any (p_event_ids) or match_id = any (p_match_ids));
    select coalesce(array_agg(id order by id), '{}') into labels
    from ml_data
    where model_name = p_model_name
      and (id::text = any (p_event_ids || p_match_ids)
           or metadata ->> 'event_id' = any (p_event_ids)
           or metadata ->> 'match_id' = any (p_match_ids)
           or metadata ->> 'id' = any (p_event_ids || p_match_ids));
    if not p_dry_run then
        insert into evaluation_log_erased (event_hash, model_name)
        select encode(sha256(convert_to(lower(id), 'UTF8')), 'hex'), p_model_name
        from unnest(p_event_ids || events::text[]) as id
        on conflict do nothing;
        insert into evaluation_log_changes (model_name, day, kind)
        select model_name, known_at::date, 'erased' from evaluation_log
        where event_id = any (events) and actual_result is not null;
        delete from evaluation_log where event_id = any (events);
        delete from ml_data where id = any (labels);
    end if;
    return jsonb_build_object(
        'evaluation_log', cardinality(events), 'ml_data', cardinality(labels)
    );
end
$$;

select ml_pipeline_lock(
    'ml_pipeline_record_outcome', 'ml_pipeline_add_label', 'erase_evaluation_events'
);

-- Record what really happened with one prediction, by `event_id`, or with every prediction of
-- `entity_id` that was made before it was known (`known_at`, else now). Another outcome that stands
-- is replaced with `correct` alone; it is kept in the event's metadata. Returns how many outcomes
-- were recorded, corrected and known already.
--
-- All or nothing: MLP03 for a prediction that is not there, or not the caller's; MLP04 for an
-- outcome that contradicts one that stands, or was known before the prediction; MLP08 for what is
-- no label, and for a time in the future. See `evaluation_log.recording.settling`.
create or replace function record_outcome(
    model_name text, actual text, event_id uuid default null, entity_id text default null,
    correct boolean default false, known_at timestamptz default null
) returns jsonb
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
    select public.ml_pipeline_record_outcome(
        model_name, actual, event_id, entity_id, coalesce(correct, false), known_at
    )
$$;

-- Add the label that a person gave to `ml_data`, for `train --from_table`: of a prediction by its
-- event's or its own id (the features are those that were logged), or of `features`. The same label
-- again is known already. MLP04 where another one stands, MLP08 for what is no label and for what
-- nobody can find. See `datasets.label_file`.
create or replace function add_label(
    model_name text, label text, id text default null, features jsonb default null,
    source text default 'person'
) returns jsonb
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
    select public.ml_pipeline_add_label(model_name, label, id, features, source)
$$;

select ml_pipeline_open('public.record_outcome(text, text, uuid, text, boolean, timestamptz)'),
       ml_pipeline_open('public.add_label(text, text, text, jsonb, text)');

insert into ml_pipeline_schema_version (version, name) values (45, 'outcomes')
on conflict (version) do nothing;

notify pgrst, 'reload schema';
