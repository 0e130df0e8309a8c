-- What the champion's answers are made of, so that the database gives them itself.

-- One row per model name. `trouble` says why a model cannot be scored here; then the rest is empty.
-- `kinds` is empty where every feature is a number; `mean` and `scale` are those of the training
-- rows. The levels that training had of a category stand in `known_levels`, up to the place in
-- `level_ends` that belongs to its feature's in `level_features`. `labels` has the spellings of
-- labels as `sum_evaluations_by_day` takes them, `is_open` whether any other text is a label as well,
-- and `shares_labels` whether the rows of `ml_data` are those of several models.
create table if not exists model_scoring (
    model_name           text primary key,
    model_id             text not null,
    written_at           timestamptz not null default now(),
    trouble              text,
    scoring_digest       text,
    settings_digest      text not null,
    format               integer,
    features             text[] not null default '{}',
    kinds                text[] not null default '{}',
    classes              text[] not null default '{}',
    base_classes         text[] not null default '{}',
    members              text[] not null default '{}',
    mean                 double precision[] not null default '{}',
    scale                double precision[] not null default '{}',
    level_features       integer[] not null default '{}',
    level_ends           integer[] not null default '{}',
    known_levels         double precision[] not null default '{}',
    confidence_threshold double precision not null,
    conflict_margin      double precision not null,
    imputes              boolean not null,
    labels               jsonb not null,
    is_open              boolean not null,
    tolerance            interval not null,
    shares_labels        boolean not null default false,
    places               integer[] not null default '{}',
    numbers              double precision[] not null default '{}'
);

alter table model_scoring add column if not exists shares_labels boolean not null default false;

comment on table model_scoring is
    'ml_pipeline: the scoring file of each champion as a program, see docs/scoring-format.md';

-- What is not compressed is read faster.
alter table model_scoring
    alter column places set storage external,
    alter column numbers set storage external;

-- A program that ml_pipeline_score would read otherwise than it was written: the next run, or
-- `ml-pipeline models publish`, writes it anew, and until then the database answers nothing.
delete from model_scoring where format <> 2;

select ml_pipeline_lock('model_scoring');

-- Replace what the answers of a model name are made of. Without `p_scoring` there is none: a model
-- that serves since is never answered for by the one before. A program that does not answer the
-- row of its `probe` as it should is not kept, and `trouble` says so. Returns the trouble.
create or replace function ml_pipeline_write_scoring(
    p_model_name text, p_model_id text, p_scoring jsonb
) returns text
language plpgsql
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
declare
    given model_scoring;
    expected double precision[];
    found double precision[];
    written text;
begin
    delete from model_scoring where model_name = p_model_name;
    if p_scoring is null or jsonb_typeof(p_scoring) <> 'object' then
        return null;
    end if;
    given := jsonb_populate_record(null::model_scoring, p_scoring || jsonb_build_object(
        'model_name', p_model_name, 'model_id', p_model_id, 'written_at', now()
    ));
    if given.trouble is null then
        expected := (p_scoring #>> '{probe,answer}')::double precision[];
        begin
            found := ml_pipeline_score(
                given.places, given.numbers, (p_scoring #>> '{probe,row}')::double precision[]
            );
            for i in 1 .. cardinality(expected) loop
                if (abs(found[i] - expected[i]) <= 1e-9) is not true then
                    given.trouble := format(
                        'scored here, a row of it came out as %s and should be %s',
                        found[1:cardinality(expected)], expected
                    );
                end if;
            end loop;
        exception
            when query_canceled then raise;
            when others then
                given.trouble := format('scoring a row of it here failed: %s', sqlerrm);
        end;
    end if;
    if given.trouble is not null then
        given.places := '{}';
        given.numbers := '{}';
    end if;
    -- A column that an older client knows nothing of has its default.
    select string_agg(quote_ident(attname), ', ') into written
    from pg_attribute
    where attrelid = 'model_scoring'::regclass and attnum > 0 and not attisdropped
      and (attname = any (array['model_name', 'model_id', 'written_at', 'trouble'])
           or p_scoring -> attname::text <> 'null');
    execute format(
        'insert into model_scoring (%1$s) select %1$s from (select ($1).*) as given', written
    ) using given;
    return given.trouble;
end
$$;

-- As in 0009, and what the new champion's answers are made of comes under the key `scoring`.
create or replace function promote_model(p_event jsonb) returns jsonb
language plpgsql
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
declare
    given model_promotion_events := jsonb_populate_record(null::model_promotion_events, p_event);
    known model_promotion_events;
    model model_metadata;
    serving text;
    differing text;
begin
    given.verdict := coalesce(given.verdict, '{}');
    -- One change at a time per model name, also while nobody serves; so the events' sequence is
    -- the order in which the champions changed.
    perform pg_advisory_xact_lock(
        hashtextextended('ml_pipeline.promote:' || given.model_name, 0)
    );
    select * into model from model_metadata
    where model_name = given.model_name and model_id = given.to_model_id
    for update;
    if not found then
        raise exception using errcode = 'MLP03',
            message = format(
                'There is no %s / %s in model_metadata.', given.model_name, given.to_model_id
            );
    end if;

    select * into known from model_promotion_events where event_id = given.event_id;
    if found then
        differing := ml_pipeline_differences(to_jsonb(known), to_jsonb(given), array[
            'model_name', 'kind', 'to_model_id', 'from_model_id', 'reason', 'actor', 'created_at',
            'run_id', 'verdict'
        ]);
        if differing is not null then
            raise exception using errcode = 'MLP04',
                message = format(
                    'Promotion %s stands there with another %s.', known.event_id, differing
                );
        end if;
        return to_jsonb(model);
    end if;

    -- A run that was taken over while its machine slept must not promote when it wakes up.
    if exists (
        select from model_retraining_runs as run
        where run.id = given.run_id and run.status in ('completed', 'failed')
    ) then
        raise exception using errcode = 'MLP02',
            message = format('Run %s is closed and promotes nothing any more.', given.run_id);
    end if;

    select model_id into serving from model_metadata
    where model_name = given.model_name and state = 'champion'
    for update;
    if serving is distinct from given.from_model_id then
        raise exception using errcode = 'MLP05',
            message = format(
                '%s serves %s by now, not %s.', coalesce(serving, 'nobody'), given.model_name,
                coalesce(given.from_model_id, 'nobody')
            ),
            hint = 'Judge the challenger against the champion of today.';
    end if;
    if serving = given.to_model_id then
        raise exception using errcode = 'MLP05',
            message = format('%s serves %s already.', serving, given.model_name);
    end if;

    -- The old one leaves first: the index on champions is checked row by row.
    update model_metadata set state = 'retired'
    where model_name = given.model_name and state = 'champion';
    insert into model_promotion_events (
        event_id, model_name, kind, to_model_id, from_model_id, reason, actor, created_at, run_id,
        verdict
    )
    values (
        given.event_id, given.model_name, given.kind, given.to_model_id, given.from_model_id,
        given.reason, given.actor, given.created_at, given.run_id, given.verdict
    );
    update model_metadata as promoted set state = 'champion'
    where promoted.model_name = given.model_name and promoted.model_id = given.to_model_id
    returning promoted.* into model;
    perform ml_pipeline_write_scoring(
        given.model_name, given.to_model_id, p_event -> 'scoring'
    );
    return to_jsonb(model);
end
$$;

-- Write it for a model that is champion already. MLP05 when another one serves by now.
create or replace function publish_model_scoring(
    p_model_name text, p_model_id text, p_scoring jsonb
) returns jsonb
language plpgsql
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
declare
    serving text;
    trouble text;
begin
    perform pg_advisory_xact_lock(
        hashtextextended('ml_pipeline.promote:' || p_model_name, 0)
    );
    select model_id into serving from model_metadata
    where model_name = p_model_name and state = 'champion';
    if serving is distinct from p_model_id then
        raise exception using errcode = 'MLP05',
            message = format(
                '%s serves %s by now, not %s.', coalesce(serving, 'nobody'), p_model_name,
                p_model_id
            ),
            hint = 'Repeat the command: it takes the champion of today.';
    end if;
    trouble := ml_pipeline_write_scoring(p_model_name, p_model_id, p_scoring);
    return jsonb_build_object('model_id', p_model_id, 'trouble', trouble);
end
$$;

-- What stands there of a model name without its numbers: an array with one object or none.
create or replace function read_model_scoring(p_model_name text) returns jsonb
language sql stable
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
    select coalesce(jsonb_agg(jsonb_build_object(
        'model_id', model_id, 'trouble', trouble, 'scoring_digest', scoring_digest,
        'settings_digest', settings_digest, 'format', format, 'written_at', written_at
    )), '[]')
    from model_scoring where model_name = p_model_name
$$;

select ml_pipeline_lock(
    'ml_pipeline_write_scoring', 'promote_model', 'publish_model_scoring', 'read_model_scoring'
);

insert into ml_pipeline_schema_version (version, name) values (43, 'model_scoring')
on conflict (version) do nothing;

notify pgrst, 'reload schema';
