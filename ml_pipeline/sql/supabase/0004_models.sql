-- Registered models, and every change of champion.

create table if not exists model_metadata (
    model_name text not null default 'default',
    model_id   text not null,
    primary key (model_name, model_id)
);

alter table model_metadata
    add column if not exists version              text,
    add column if not exists accuracy             double precision,
    add column if not exists f1_score             double precision,
    add column if not exists confidence_threshold double precision default 0.6,
    add column if not exists training_timestamp   timestamptz,
    add column if not exists is_active            boolean default false,
    add column if not exists metrics              jsonb default '{}',
    add column if not exists created_at           timestamptz default now(),
    add column if not exists updated_at           timestamptz not null default now(),
    add column if not exists model_name           text not null default 'default',
    add column if not exists model_id             text,
    add column if not exists algorithm            text,
    add column if not exists artifact_bucket      text,
    add column if not exists artifact_path        text,
    add column if not exists artifact_digest      text,
    add column if not exists artifact_size        bigint,
    add column if not exists artifact_format      text,
    add column if not exists state                text,
    add column if not exists anchor_id            text,
    add column if not exists parent_id            text,
    add column if not exists run_id               uuid,
    add column if not exists lineage              jsonb not null default '{}',
    add column if not exists library_versions     jsonb not null default '{}';

create table if not exists model_promotion_events (
    sequence      bigint generated always as identity primary key,
    event_id      uuid not null unique,
    model_name    text not null,
    kind          text not null check (kind in ('promotion', 'demotion', 'rollback')),
    to_model_id   text not null,
    from_model_id text,
    reason        text not null check (reason <> ''),
    actor         text not null,
    created_at    timestamptz not null default now(),
    run_id        uuid,
    verdict       jsonb not null default '{}'
);

select ml_pipeline_lock('model_metadata', 'model_promotion_events');

select ml_pipeline_retype(
    'model_metadata', 'double precision', 'accuracy', 'f1_score', 'confidence_threshold'
);
select ml_pipeline_retype(
    'model_metadata', 'timestamp with time zone', 'training_timestamp', 'created_at'
);
select ml_pipeline_retype('model_metadata', 'jsonb', 'metrics');
select ml_pipeline_retype('model_metadata', 'text', 'version');
select ml_pipeline_relax('model_metadata', 'model_name', 'model_id');

-- The same version under two model names is two models.
do $$
declare
    name text;
begin
    for name in
        select conname
        from pg_constraint
        join pg_attribute on attrelid = conrelid and array[attnum] = conkey
        where conrelid = 'model_metadata'::regclass and contype in ('u', 'p')
          and attname = 'version'
    loop
        execute format('alter table model_metadata drop constraint %I', name);
    end loop;
end
$$;

alter table model_metadata
    alter column version drop not null,
    alter column accuracy drop not null,
    alter column f1_score drop not null,
    alter column training_timestamp drop not null;

-- Rows from before: the newest active one serves, the others did once. Where the bytes are, and
-- which they are, was never written down: the digest of zeros fits no file, so such a model is
-- listed but never loaded.
update model_metadata as model
set model_id = coalesce(model.model_id, known.id),
    version = coalesce(model.version, known.id),
    state = coalesce(model.state, case when known.place = 1 then 'champion' else 'retired' end),
    created_at = coalesce(model.created_at, model.training_timestamp, now()),
    confidence_threshold = coalesce(model.confidence_threshold, 0.6),
    metrics = coalesce(model.metrics, '{}'),
    algorithm = coalesce(model.algorithm, 'unknown'),
    artifact_bucket = coalesce(model.artifact_bucket, 'ml-models'),
    artifact_path = coalesce(model.artifact_path, known.id),
    artifact_digest = coalesce(model.artifact_digest, 'sha256:' || repeat('0', 64)),
    artifact_size = coalesce(model.artifact_size, 0),
    artifact_format = coalesce(model.artifact_format, 'unknown'),
    anchor_id = coalesce(model.anchor_id, known.id)
from (
    select ctid as row,
           coalesce(
               nullif(model_id, ''),
               version || case when twin > 1 then '-' || twin else '' end,
               gen_random_uuid()::text
           ) as id,
           case when is_active and state is null then place end as place
    from (
        select *,
               ctid,
               row_number() over (
                   partition by model_name, version order by created_at, training_timestamp
               ) as twin,
               row_number() over (
                   partition by model_name, is_active and state is null
                   order by training_timestamp desc nulls last, created_at desc nulls last
               ) as place
        from model_metadata
    ) as ranked
) as known
where known.row = model.ctid
  and (model.model_id is null or model.state is null or model.algorithm is null
       or model.artifact_digest is null or model.anchor_id is null or model.created_at is null);

alter table model_metadata
    alter column model_id set not null,
    alter column algorithm set not null,
    alter column artifact_bucket set not null,
    alter column artifact_path set not null,
    alter column artifact_digest set not null,
    alter column artifact_size set not null,
    alter column artifact_format set default 'skops',
    alter column artifact_format set not null,
    alter column state set default 'candidate',
    alter column state set not null,
    alter column anchor_id set not null,
    alter column confidence_threshold set default 0.6,
    alter column confidence_threshold set not null,
    alter column metrics set default '{}',
    alter column metrics set not null,
    alter column created_at set default now(),
    alter column created_at set not null;

select ml_pipeline_unique('model_metadata', 'model_metadata_key', 'model_name', 'model_id');
select ml_pipeline_check(
    'model_metadata', 'model_metadata_named', 'model_name <> '''' and model_id <> '''''
);
select ml_pipeline_check(
    'model_metadata', 'model_metadata_state',
    $$state in ('candidate', 'champion', 'shadow', 'awaiting_approval', 'retired')$$, 'state'
);
select ml_pipeline_check(
    'model_metadata', 'model_metadata_artifact',
    $$artifact_digest ~ '^sha256:[0-9a-f]{64}$' and artifact_size >= 0$$
);
select ml_pipeline_check(
    'model_metadata', 'model_metadata_threshold', 'confidence_threshold between 0 and 1'
);

-- The older columns say the same as ours, whoever reads them.
create or replace function ml_pipeline_tidy_model() returns trigger
language plpgsql
set search_path = pg_catalog, public, pg_temp
as $$
begin
    new.version := coalesce(new.version, new.model_id);
    new.is_active := new.state = 'champion';
    new.training_timestamp := coalesce(new.training_timestamp, new.created_at);
    if new.accuracy is null and jsonb_typeof(new.metrics -> 'accuracy') = 'number' then
        new.accuracy := (new.metrics ->> 'accuracy')::double precision;
    end if;
    if new.f1_score is null and jsonb_typeof(new.metrics -> 'f1_score') = 'number' then
        new.f1_score := (new.metrics ->> 'f1_score')::double precision;
    end if;
    if tg_op = 'UPDATE' then
        new.updated_at := now();
    end if;
    return new;
end
$$;

create or replace trigger model_metadata_tidy
    before insert or update on model_metadata
    for each row execute function ml_pipeline_tidy_model();

select ml_pipeline_lock('ml_pipeline_tidy_model');

update model_metadata set is_active = (state = 'champion')
where is_active is distinct from (state = 'champion');

create unique index if not exists model_metadata_one_champion
    on model_metadata (model_name) where state = 'champion';

-- Ids sort by their bytes, in whatever language the database speaks.
create index if not exists model_metadata_newest
    on model_metadata (model_name, created_at desc, model_id collate "C" desc);

create index if not exists model_promotion_events_newest
    on model_promotion_events (model_name, sequence desc);

do $$
begin
    if not exists (
        select from pg_constraint
        where conrelid = 'model_promotion_events'::regclass
          and conname = 'model_promotion_events_to'
    ) then
        alter table model_promotion_events
            add constraint model_promotion_events_to foreign key (model_name, to_model_id)
                references model_metadata (model_name, model_id),
            add constraint model_promotion_events_from foreign key (model_name, from_model_id)
                references model_metadata (model_name, model_id);
    end if;
end
$$;

insert into ml_pipeline_schema_version (version, name) values (4, 'models')
on conflict (version) do nothing;

notify pgrst, 'reload schema';
