-- What the client does with models. Rows travel as JSON objects with the columns' names.

-- Add a model that is not champion and return its row; the same model again returns what became
-- of it. MLP04 for a known id with other content, and for a champion.
create or replace function register_model(p_model jsonb) returns jsonb
language plpgsql
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
declare
    given model_metadata := jsonb_populate_record(null::model_metadata, p_model);
    known model_metadata;
    differing text;
begin
    given.state := coalesce(given.state, 'candidate');
    given.artifact_format := coalesce(given.artifact_format, 'skops');
    given.confidence_threshold := coalesce(given.confidence_threshold, 0.6);
    given.metrics := coalesce(given.metrics, '{}');
    given.lineage := coalesce(given.lineage, '{}');
    given.library_versions := coalesce(given.library_versions, '{}');
    select * into known from model_metadata
    where model_name = given.model_name and model_id = given.model_id;
    if not found then
        if given.state = 'champion' then
            raise exception using errcode = 'MLP04',
                message = format('%s cannot be registered as champion.', given.model_id),
                hint = 'Register it as candidate, then promote it.';
        end if;
        insert into model_metadata as model (
            model_name, model_id, algorithm, artifact_bucket, artifact_path, artifact_digest,
            artifact_size, artifact_format, created_at, state, anchor_id, parent_id, run_id,
            confidence_threshold, metrics, lineage, library_versions
        )
        values (
            given.model_name, given.model_id, given.algorithm, given.artifact_bucket,
            given.artifact_path, given.artifact_digest, given.artifact_size,
            given.artifact_format, given.created_at, given.state, given.anchor_id,
            given.parent_id, given.run_id, given.confidence_threshold, given.metrics,
            given.lineage, given.library_versions
        )
        on conflict (model_name, model_id) do nothing
        returning model.* into known;
        if found then
            return to_jsonb(known);
        end if;
        select * into known from model_metadata
        where model_name = given.model_name and model_id = given.model_id;
    end if;
    differing := ml_pipeline_differences(to_jsonb(known), to_jsonb(given), array[
        'algorithm', 'artifact_bucket', 'artifact_path', 'artifact_digest', 'artifact_size',
        'artifact_format', 'created_at', 'anchor_id', 'parent_id', 'run_id',
        'confidence_threshold', 'metrics', 'lineage', 'library_versions'
    ]);
    if differing is not null then
        raise exception using errcode = 'MLP04',
            message = format(
                'Model %s / %s stands there with another %s.',
                known.model_name, known.model_id, differing
            );
    end if;
    return to_jsonb(known);
end
$$;

-- Make `to_model_id` champion if `from_model_id` still is (null: if nobody serves), retire the
-- one before, keep the event, and return the model's row. The same event again changes nothing.
-- MLP02 when the run that asks was closed meanwhile, MLP03 when there is no such model, MLP04 for a
-- known event with other content, MLP05 when another champion serves by now.
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
    return to_jsonb(model);
end
$$;

-- Move a model that is not champion to another state that is not champion. MLP03, MLP04.
create or replace function set_model_state(p_model_name text, p_model_id text, p_state text)
returns jsonb
language plpgsql
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
declare
    known model_metadata;
begin
    select * into known from model_metadata
    where model_name = p_model_name and model_id = p_model_id
    for update;
    if not found then
        raise exception using errcode = 'MLP03',
            message = format('There is no %s / %s in model_metadata.', p_model_name, p_model_id);
    end if;
    if 'champion' in (known.state, p_state) then
        raise exception using errcode = 'MLP04',
            message = format(
                '%s is %s and cannot become %s this way.', p_model_id, known.state, p_state
            ),
            hint = 'Champions change by promotion or rollback only.';
    end if;
    update model_metadata as model set state = p_state
    where model.model_name = p_model_name and model.model_id = p_model_id
    returning model.* into known;
    return to_jsonb(known);
end
$$;

-- Registered models, newest first, as one array; `p_anchor_id` keeps one lineage.
create or replace function list_models(
    p_model_name text, p_limit integer, p_anchor_id text default null
) returns jsonb
language sql stable
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
    select coalesce(jsonb_agg(to_jsonb(model)), '[]')
    from (
        select * from model_metadata
        where model_name = p_model_name and (p_anchor_id is null or anchor_id = p_anchor_id)
        order by created_at desc, model_id collate "C" desc
        limit p_limit
    ) as model
$$;

-- Changes of champion, newest first, as one array.
create or replace function list_promotion_events(p_model_name text, p_limit integer) returns jsonb
language sql stable
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
    select coalesce(jsonb_agg(to_jsonb(event)), '[]')
    from (
        select * from model_promotion_events where model_name = p_model_name
        order by sequence desc
        limit p_limit
    ) as event
$$;

select ml_pipeline_lock(
    'register_model', 'promote_model', 'set_model_state', 'list_models', 'list_promotion_events'
);

insert into ml_pipeline_schema_version (version, name) values (9, 'model_functions')
on conflict (version) do nothing;

notify pgrst, 'reload schema';
