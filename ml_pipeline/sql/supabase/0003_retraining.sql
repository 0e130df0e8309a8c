-- Runs, and the requests for them.

create table if not exists model_retraining_runs (
    id             uuid primary key default gen_random_uuid(),
    source         text not null check (source in ('auto_daily', 'manual', 'decay_triggered')),
    dataset_size   integer default 0,
    fine_tune_flag boolean default true,
    status         text not null default 'pending'
                   check (status in ('pending', 'running', 'completed', 'failed')),
    metrics        jsonb default '{}',
    started_at     timestamptz default now(),
    completed_at   timestamptz,
    log_url        text,
    error_message  text,
    triggered_by   uuid,
    created_at     timestamptz not null default now(),
    updated_at     timestamptz not null default now()
);

alter table model_retraining_runs
    add column if not exists created_at      timestamptz not null default now(),
    add column if not exists updated_at      timestamptz not null default now(),
    add column if not exists model_name      text not null default 'default',
    add column if not exists heartbeat_at    timestamptz,
    add column if not exists training_rows   integer not null default 0,
    add column if not exists outcome         text,
    add column if not exists outcome_reason  text,
    add column if not exists details         jsonb not null default '{}',
    add column if not exists champion_id     text,
    add column if not exists challenger_id   text,
    add column if not exists training_digest text,
    add column if not exists holdout_digest  text,
    add column if not exists config_digest   text,
    add column if not exists git_sha         text;

create table if not exists model_retraining_requests (
    id                uuid primary key default gen_random_uuid(),
    requested_by      uuid,
    reason            text default '',
    priority          text not null default 'normal' check (priority in ('low', 'normal', 'high')),
    status            text not null default 'pending',
    processed_at      timestamptz,
    retraining_run_id uuid,
    created_at        timestamptz not null default now(),
    updated_at        timestamptz not null default now()
);

alter table model_retraining_requests
    add column if not exists created_at    timestamptz not null default now(),
    add column if not exists updated_at    timestamptz not null default now(),
    add column if not exists model_name    text not null default 'default',
    add column if not exists attempts      integer not null default 0,
    add column if not exists claimed_at    timestamptz,
    add column if not exists lease_until   timestamptz,
    add column if not exists error_message text,
    add column if not exists priority_rank smallint
        generated always as (
            case priority when 'high' then 0 when 'normal' then 1 else 2 end
        ) stored;

select ml_pipeline_lock('model_retraining_runs', 'model_retraining_requests');

-- Runs -------------------------------------------------------------------------------------

select ml_pipeline_relax(
    'model_retraining_runs', 'id', 'source', 'status', 'fine_tune_flag', 'dataset_size', 'metrics',
    'started_at', 'created_at', 'updated_at'
);

-- Rows from before: nothing was ever kept of what those runs trained, so no model of theirs can
-- have been promoted, and of several that were never closed only the last may still be alive.
update model_retraining_runs as run
set status = 'failed', error_message = 'never closed; a later run was started'
from (
    select id, row_number() over (
        partition by model_name order by started_at desc nulls last, created_at desc, id desc
    ) as place
    from model_retraining_runs
    where status = 'running'
) as latest
where latest.id = run.id and latest.place > 1;

update model_retraining_runs
set dataset_size = coalesce(dataset_size, 0),
    fine_tune_flag = coalesce(fine_tune_flag, true),
    metrics = coalesce(nullif(metrics, 'null'), '{}'),
    started_at = coalesce(started_at, created_at),
    heartbeat_at = coalesce(heartbeat_at, completed_at, started_at, created_at),
    completed_at = case when status in ('completed', 'failed')
                        then coalesce(completed_at, updated_at, created_at) end,
    error_message = case when status = 'failed'
                         then coalesce(nullif(error_message, ''), 'no error message was recorded')
                         else error_message end,
    outcome = coalesce(outcome, case
        when status = 'failed' then 'failed'
        when status = 'completed' and coalesce(dataset_size, 0) < 10
             and coalesce(metrics, '{}') in ('{}', 'null') then 'skipped_insufficient_errors'
        when status = 'completed' then 'rejected'
    end),
    outcome_reason = coalesce(outcome_reason, case
        when outcome is not null then null
        when status = 'failed' then coalesce(nullif(error_message, ''), 'failed')
        when status = 'completed' then 'recorded before outcomes were kept'
    end)
where dataset_size is null or fine_tune_flag is null or metrics is null or metrics = 'null'
   or started_at is null or heartbeat_at is null
   or (status in ('completed', 'failed') and (outcome is null or completed_at is null))
   or (status = 'failed' and coalesce(error_message, '') = '');

alter table model_retraining_runs
    alter column dataset_size set default 0,
    alter column dataset_size set not null,
    alter column fine_tune_flag set default true,
    alter column fine_tune_flag set not null,
    alter column metrics set default '{}',
    alter column metrics set not null,
    alter column started_at set default now(),
    alter column started_at set not null,
    alter column heartbeat_at set default now(),
    alter column heartbeat_at set not null;

select ml_pipeline_check(
    'model_retraining_runs', 'model_retraining_runs_named', 'model_name <> '''''
);
select ml_pipeline_check(
    'model_retraining_runs', 'model_retraining_runs_counted',
    'dataset_size >= 0 and training_rows >= 0'
);
select ml_pipeline_check(
    'model_retraining_runs', 'model_retraining_runs_outcome',
    $$outcome in ('promoted', 'rejected', 'awaiting_approval', 'skipped_insufficient_errors',
                  'skipped_no_new_data', 'failed')$$,
    'outcome'
);

create unique index if not exists model_retraining_runs_one_running
    on model_retraining_runs (model_name) where status = 'running';

create index if not exists model_retraining_runs_latest
    on model_retraining_runs (model_name, started_at desc, id desc);

-- For pages that show runs of every model.
create index if not exists model_retraining_runs_started
    on model_retraining_runs (started_at desc);

create or replace trigger model_retraining_runs_touch
    before update on model_retraining_runs
    for each row execute function ml_pipeline_touch();

-- Requests ---------------------------------------------------------------------------------

select ml_pipeline_relax(
    'model_retraining_requests', 'id', 'priority', 'status', 'reason', 'created_at', 'updated_at'
);

-- A web page may send no reason; a request is always told with one.
create or replace function ml_pipeline_tidy_request() returns trigger
language plpgsql
set search_path = pg_catalog, public, pg_temp
as $$
begin
    new.reason := coalesce(new.reason, '');
    if new.status = 'cancelled' then
        new.processed_at := coalesce(new.processed_at, now());
    end if;
    if tg_op = 'UPDATE' then
        new.updated_at := now();
    end if;
    return new;
end
$$;

create or replace trigger model_retraining_requests_tidy
    before insert or update on model_retraining_requests
    for each row execute function ml_pipeline_tidy_request();

-- A request that was in work before leases existed would stay so for ever: back to the queue.
update model_retraining_requests
set reason = coalesce(reason, ''),
    status = case when status = 'processing' and lease_until is null then 'pending' else status end,
    retraining_run_id = case when status = 'processing' and lease_until is null then null
                             else retraining_run_id end
where reason is null or (status = 'processing' and lease_until is null);

alter table model_retraining_requests
    alter column reason set default '',
    alter column reason set not null;

select ml_pipeline_check(
    'model_retraining_requests', 'model_retraining_requests_words',
    $$status in ('pending', 'processing', 'completed', 'failed', 'cancelled')$$, 'status'
);
select ml_pipeline_check(
    'model_retraining_requests', 'model_retraining_requests_named', 'model_name <> '''''
);
select ml_pipeline_check(
    'model_retraining_requests', 'model_retraining_requests_lease',
    $$(status = 'processing') = (lease_until is not null)
      and (status <> 'processing' or retraining_run_id is not null) and attempts >= 0$$
);

create index if not exists model_retraining_requests_served
    on model_retraining_requests (model_name, priority_rank, created_at, id);

create index if not exists model_retraining_requests_claimable
    on model_retraining_requests (model_name, priority_rank, created_at, id)
    where status in ('pending', 'processing');

create index if not exists model_retraining_requests_mine
    on model_retraining_requests (requested_by, status);

-- What users may have open, held here so that an insert past the functions meets it as well. It
-- runs with its owner's rights, for users see only their own rows.
create or replace function ml_pipeline_admit_request() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    caller uuid := public.ml_pipeline_caller();
    per_user integer;
    total integer;
    mine bigint;
    everyone bigint;
begin
    new.requested_by := coalesce(new.requested_by, caller);
    new.created_at := now();
    if length(new.reason) > 2000 or length(new.model_name) > 200 then
        raise exception using errcode = 'MLP04',
            message = 'A reason has at most 2000 characters, the name of a model 200.';
    end if;
    -- One at a time: two inserts must not both count the rows before the other's.
    perform pg_advisory_xact_lock(hashtextextended('ml_pipeline.open_requests', 0));
    select coalesce(max(value) filter (where name = 'open_requests_per_user'), 3),
           coalesce(max(value) filter (where name = 'open_requests_total'), 50)
    into per_user, total
    from public.ml_pipeline_limits;
    select count(*) filter (where requested_by = caller), count(*)
    into mine, everyone
    from public.model_retraining_requests
    where status in ('pending', 'processing');
    if mine >= per_user then
        raise exception using errcode = 'MLP06',
            message = format('You have %s open requests already; %s are allowed.', mine, per_user),
            hint = 'Wait for them, or cancel one.';
    end if;
    if everyone >= total then
        raise exception using errcode = 'MLP06',
            message = format('%s requests are open already; %s are allowed.', everyone, total),
            hint = 'Wait until the queue is shorter.';
    end if;
    return new;
end
$$;

-- `current_user` in the condition is who inserts; in the function it would be the owner.
create or replace trigger model_retraining_requests_admit
    before insert on model_retraining_requests
    for each row when (current_user in ('anon', 'authenticated'))
    execute function ml_pipeline_admit_request();

select ml_pipeline_lock('ml_pipeline_tidy_request', 'ml_pipeline_admit_request');

insert into ml_pipeline_schema_version (version, name) values (3, 'retraining')
on conflict (version) do nothing;

notify pgrst, 'reload schema';
