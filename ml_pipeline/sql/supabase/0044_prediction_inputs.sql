-- What apps send to `rpc('predict', …)` and the other functions that they call, as it is read.
--
-- Further errors that the functions raise on purpose, beside those of 0001:
--   MLP07  the database cannot answer with the model that serves
--   MLP08  input that cannot be used

-- What an id, an outcome's label or a signed-in user is called by whoever signed the token.
-- In PL/pgSQL, which keeps its plans: SQL functions that set something are planned at every call.
create or replace function ml_pipeline_subject() returns text
language plpgsql stable
set search_path = pg_catalog, public, pg_temp
as $$
begin
    return coalesce(
        nullif(current_setting('request.jwt.claim.sub', true), ''),
        nullif(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub', '')
    );
end
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
    -- What the log keeps of values that are no numbers.
    cells jsonb := '{}'::jsonb;
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
    missing := '{}';
    for i in 1 .. width loop
        value := case when is_object then p_features -> p_names[i] else p_features -> (i - 1) end;
        -- Most values are plain numbers; a call for each would take longer than the rest.
        if jsonb_typeof(value) = 'number' and (cardinality(p_kinds) = 0 or p_kinds[i] = 'number')
            and (abs(value::numeric) between 1e-300 and 1e150 or value = '0')
        then
            x := value::double precision;
            is_as_given := is_as_given and to_jsonb(x) = value;
            numbers[i] := x;
            continue;
        end if;
        if value is null then
            perform ml_pipeline_refuse(format('Features are missing: %s.', (
                select string_agg(name, ', ' order by place)
                from unnest(p_names) with ordinality as known (name, place)
                where not p_features ? name
            )));
        end if;
        is_as_given := is_as_given and value = 'null';
        if cardinality(p_kinds) = 0 or p_kinds[i] = 'number' then
            x := ml_pipeline_read_number(value, p_names[i]);
        else
            select cell.number, cell.kept into x, value
            from ml_pipeline_read_cell(p_kinds[i], value, p_names[i]) as cell;
            cells := cells || jsonb_build_object(p_names[i], value);
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
    if is_as_given and p_features - p_names = '{}' then
        logged := p_features;
    else
        select jsonb_object_agg(name, nullif(number, 'NaN')) || cells into logged
        from unnest(p_names, numbers) as known (name, number);
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

select ml_pipeline_lock(
    'ml_pipeline_subject', 'ml_pipeline_shown', 'ml_pipeline_refuse', 'ml_pipeline_is_blank',
    'ml_pipeline_read_number', 'ml_pipeline_level', 'ml_pipeline_moment', 'ml_pipeline_iso',
    'ml_pipeline_read_cell', 'ml_pipeline_read_row', 'ml_pipeline_read_id'
);

-- What apps call. Only these may be granted to signed-in users (`init --grant`), and what was
-- granted stays when this file is applied again; somebody's own functions of these names are not
-- touched. Default privileges on Supabase give a new function to everyone: that is taken back. The
-- comment tells a function that stayed from one that was dropped and made anew.
create or replace function ml_pipeline_open(p_function text) returns void
language plpgsql
set search_path = pg_catalog, public, pg_temp
as $$
declare
    ours constant text := 'ml_pipeline: called by apps, see docs/supabase-js.md';
    grantee text;
    is_new constant boolean :=
        obj_description(p_function::regprocedure, 'pg_proc') is distinct from ours;
begin
    execute format('revoke all on function %s from public', p_function::regprocedure);
    for grantee in
        select rolname from pg_roles
        where rolname = 'anon' or rolname = 'authenticated' and is_new
    loop
        execute format('revoke all on function %s from %I', p_function::regprocedure, grantee);
    end loop;
    if exists (select from pg_roles where rolname = 'service_role') then
        execute format('grant execute on function %s to service_role', p_function::regprocedure);
    end if;
    execute format('comment on function %s is %L', p_function::regprocedure, ours);
end
$$;

select ml_pipeline_lock('ml_pipeline_open');

insert into ml_pipeline_schema_version (version, name) values (44, 'prediction_inputs')
on conflict (version) do nothing;

notify pgrst, 'reload schema';
