-- Evaluation events: what a model said, and what really happened.

create table if not exists evaluation_log (event_id uuid primary key);

alter table evaluation_log
    add column if not exists "timestamp"   timestamptz default now(),
    add column if not exists event_type    text default 'prediction',
    add column if not exists model_id      text,
    add column if not exists match_id      text,
    add column if not exists prediction    text,
    add column if not exists actual_result text,
    add column if not exists confidence    double precision,
    add column if not exists accuracy      double precision,
    add column if not exists metadata      jsonb,
    add column if not exists status        text default 'pending',
    add column if not exists model_name    text default 'default',
    add column if not exists features      jsonb,
    add column if not exists evaluated_at  timestamptz;

select ml_pipeline_lock('evaluation_log');

select ml_pipeline_retype('evaluation_log', 'uuid', 'event_id');
select ml_pipeline_retype('evaluation_log', 'jsonb', 'features', 'metadata');
select ml_pipeline_retype('evaluation_log', 'double precision', 'confidence', 'accuracy');
select ml_pipeline_retype(
    'evaluation_log', 'timestamp with time zone', 'timestamp', 'evaluated_at'
);
select ml_pipeline_retype(
    'evaluation_log', 'text',
    'event_type', 'model_name', 'model_id', 'match_id', 'prediction', 'actual_result', 'status'
);
select ml_pipeline_relax(
    'evaluation_log', 'event_id', 'timestamp', 'event_type', 'model_name', 'status'
);

-- The store judges for itself, whoever writes: applications that update `actual_result` in place
-- need not know about the columns that follow from it. An outcome that comes without a time of
-- its own is known from now on; `append_evaluation_events` keeps times as they were given.
create or replace function ml_pipeline_judge_event() returns trigger
language plpgsql
set search_path = pg_catalog, public, pg_temp
as $$
begin
    if new.actual_result is null then
        new.evaluated_at := null;
    elsif tg_op = 'UPDATE'
        and new.actual_result is distinct from old.actual_result
        and new.evaluated_at is not distinct from old.evaluated_at
        and coalesce(current_setting('ml_pipeline.times', true), '') <> 'as given'
    then
        new.evaluated_at := now();
    end if;
    new.accuracy := case
        when new.prediction is null or new.actual_result is null then null
        when new.prediction = new.actual_result then 1
        else 0
    end;
    new.status := case when new.actual_result is null then 'pending' else 'evaluated' end;
    return new;
end
$$;

create or replace trigger evaluation_log_judge
    before insert or update on evaluation_log
    for each row execute function ml_pipeline_judge_event();

select ml_pipeline_lock('ml_pipeline_judge_event');

update evaluation_log
set event_id = coalesce(event_id, gen_random_uuid()),
    "timestamp" = coalesce("timestamp", now()),
    event_type = coalesce(event_type, 'prediction'),
    model_name = coalesce(nullif(model_name, ''), 'default'),
    prediction = nullif(prediction, ''),
    actual_result = nullif(actual_result, '')
where event_id is null or "timestamp" is null or event_type is null
   or model_name is null or model_name = '' or prediction = '' or actual_result = ''
   or status is distinct from
      case when actual_result is null then 'pending' else 'evaluated' end
   or accuracy is distinct from
      case when prediction is null or actual_result is null then null
           when prediction = actual_result then 1 else 0 end
   or (evaluated_at is not null and actual_result is null);

alter table evaluation_log
    alter column event_id set not null,
    alter column "timestamp" set default now(),
    alter column "timestamp" set not null,
    alter column event_type set default 'prediction',
    alter column event_type set not null,
    alter column model_name set default 'default',
    alter column model_name set not null,
    alter column status set default 'pending',
    alter column status set not null;

alter table evaluation_log
    add column if not exists known_at timestamptz
        generated always as (coalesce(evaluated_at, "timestamp")) stored;

select ml_pipeline_unique('evaluation_log', 'evaluation_log_event_id', 'event_id');
select ml_pipeline_check('evaluation_log', 'evaluation_log_named', 'model_name <> ''''');
select ml_pipeline_check(
    'evaluation_log', 'evaluation_log_predicted',
    'prediction <> '''' and (prediction is not null or event_type <> ''prediction'')'
);
select ml_pipeline_check('evaluation_log', 'evaluation_log_result', 'actual_result <> ''''');
select ml_pipeline_check(
    'evaluation_log', 'evaluation_log_confident', 'confidence between 0 and 1'
);

-- Labelled and pending events by key, page after page; the conditions stand in the queries of
-- the functions word for word.
create index if not exists evaluation_log_labelled
    on evaluation_log (model_name, known_at, event_id)
    where actual_result is not null and prediction is not null;

create index if not exists evaluation_log_pending
    on evaluation_log (model_name, known_at, event_id)
    where actual_result is null and prediction is not null;

-- Wrong; the confidence is part of the key, so that no row is read in vain.
create index if not exists evaluation_log_errors
    on evaluation_log (model_name, known_at, event_id, confidence)
    where accuracy = 0 and prediction <> 'UNCERTAIN';

insert into ml_pipeline_schema_version (version, name) values (2, 'evaluation_log')
on conflict (version) do nothing;

notify pgrst, 'reload schema';
