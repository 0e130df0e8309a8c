-- What is watched: accuracy per day, alerts of decay, learning cycles, ground truth.

-- One row per model name, UTC day and model; '' is every model of the name together.
create table if not exists prediction_accuracy_daily (
    model_name  text not null,
    day         date not null,
    model_id    text not null default '',
    evaluated   integer not null default 0 check (evaluated >= 0),
    correct     integer not null default 0 check (correct between 0 and evaluated),
    uncertain   integer not null default 0 check (uncertain between 0 and evaluated),
    accuracy    double precision
                generated always as (correct::double precision / nullif(evaluated, 0)) stored,
    log_loss    double precision,
    details     jsonb not null default '{}',
    updated_at  timestamptz not null default now(),
    primary key (model_name, day, model_id)
);

create table if not exists prediction_decay_events (
    id                uuid primary key default gen_random_uuid(),
    model_name        text not null,
    model_id          text,
    detected_at       timestamptz not null default now(),
    metric            text not null default 'accuracy',
    baseline          double precision not null,
    recent            double precision not null,
    drop_size         double precision generated always as (baseline - recent) stored,
    threshold         double precision,
    baseline_rows     integer,
    recent_rows       integer,
    window_start      timestamptz,
    window_end        timestamptz,
    message           text not null default '',
    request_id        uuid,
    run_id            uuid,
    resolved_at       timestamptz,
    details           jsonb not null default '{}'
);

create index if not exists prediction_decay_events_newest
    on prediction_decay_events (model_name, detected_at desc, id desc);

create table if not exists system_events (id uuid primary key default gen_random_uuid());
alter table system_events
    add column if not exists event_type  text not null default 'event',
    add column if not exists "timestamp" timestamptz not null default now(),
    add column if not exists model_name  text not null default 'default',
    add column if not exists message     text not null default '',
    add column if not exists metadata    jsonb not null default '{}';

-- Written when a database has no `system_events`; the same event under its older names.
create table if not exists learning_events (id uuid primary key default gen_random_uuid());
alter table learning_events
    add column if not exists event_type text not null default 'event',
    add column if not exists created_at timestamptz not null default now(),
    add column if not exists model_name text not null default 'default',
    add column if not exists message    text not null default '',
    add column if not exists metadata   jsonb not null default '{}';

-- One row per learning cycle. `total` weighs the rate; it is unknown for cycles that kept none.
create table if not exists learning_stats (id uuid primary key default gen_random_uuid());
alter table learning_stats
    add column if not exists "timestamp" timestamptz not null default now(),
    add column if not exists accept_rate double precision,
    add column if not exists accepted    integer,
    add column if not exists total       integer,
    add column if not exists model_name  text not null default 'default',
    add column if not exists metadata    jsonb not null default '{}';

-- Ground truth: labels that people gave. Never filled from the model's own predictions.
create table if not exists ml_data (id uuid primary key default gen_random_uuid());
alter table ml_data
    add column if not exists created_at timestamptz not null default now(),
    add column if not exists model_name text not null default 'default',
    add column if not exists query      text,
    add column if not exists features   jsonb,
    add column if not exists label      text,
    add column if not exists source     text not null default 'feedback',
    add column if not exists metadata   jsonb not null default '{}';

select ml_pipeline_lock(
    'prediction_accuracy_daily', 'prediction_decay_events', 'system_events', 'learning_events',
    'learning_stats', 'ml_data'
);
select ml_pipeline_relax('system_events', 'event_type', 'timestamp', 'model_name');
select ml_pipeline_relax('learning_events', 'event_type', 'created_at', 'model_name');
select ml_pipeline_relax('learning_stats', 'timestamp', 'accept_rate', 'model_name');
select ml_pipeline_relax('ml_data', 'created_at', 'label', 'model_name');

create index if not exists system_events_newest on system_events (event_type, "timestamp" desc);
create index if not exists learning_events_newest on learning_events (event_type, created_at desc);
create index if not exists learning_stats_newest on learning_stats (model_name, "timestamp" desc);
create index if not exists ml_data_newest on ml_data (model_name, created_at, id);

create or replace trigger prediction_accuracy_daily_touch
    before update on prediction_accuracy_daily
    for each row execute function ml_pipeline_touch();

insert into ml_pipeline_schema_version (version, name) values (5, 'watching')
on conflict (version) do nothing;

notify pgrst, 'reload schema';
