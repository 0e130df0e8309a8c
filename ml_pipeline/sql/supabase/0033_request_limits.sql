-- How much signed-in users may ask for. None of it holds for the service role, and none of what
-- users ask for counts against it.

insert into ml_pipeline_limits (name, value)
values ('requests_per_user_and_day', 10), ('requests_per_day', 200), ('request_expires_days', 14)
on conflict (name) do nothing;

do $$
begin
    if not exists (
        select from pg_attribute
        where attrelid = 'model_retraining_requests'::regclass and attname = 'by_user'
    ) then
        alter table model_retraining_requests
            add column by_user boolean not null default false;
        -- Who asked was not kept apart; what names a user will have come from one.
        update model_retraining_requests set by_user = true
        where requested_by is not null and status in ('pending', 'processing');
    end if;
end
$$;

create index if not exists model_retraining_requests_recent
    on model_retraining_requests (created_at);

-- Whether anything of that name was ever registered, run or served. Of a project in which nothing
-- was, the name that settings have by default.
create or replace function ml_pipeline_knows_model(p_model_name text) returns boolean
language sql stable
set search_path = pg_catalog, public, pg_temp
as $$
    select exists (select from model_metadata where model_name = p_model_name)
        or exists (select from model_retraining_runs where model_name = p_model_name)
        or exists (select from ml_pipeline_leases where name = 'worker:' || p_model_name)
        or p_model_name = 'default'
           and not exists (select from model_metadata)
           and not exists (select from model_retraining_runs)
$$;

-- Close requests that have waited since before `p_before` as failed; return them in the order of
-- service.
create or replace function ml_pipeline_expire_requests(
    p_model_name text, p_now timestamptz, p_before timestamptz
) returns jsonb
language sql
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
    with expired as (
        update model_retraining_requests
        set status = 'failed', processed_at = p_now,
            error_message = format(
                'expired: no run served it since %s UTC', to_char(created_at, 'YYYY-MM-DD HH24:MI')
            )
        where model_name = p_model_name and status = 'pending' and created_at < p_before
        returning *
    )
    select coalesce(jsonb_agg(to_jsonb(expired) order by priority_rank, created_at, id), '[]')
    from expired
$$;

-- Delete requests that were closed before `p_closed_before`, and close those that have waited
-- since before `p_pending_before`; return these. Names that nothing serves are tidied along: no
-- run of theirs will ever do it.
create or replace function prune_retraining_requests(
    p_model_name text, p_now timestamptz, p_pending_before timestamptz,
    p_closed_before timestamptz
) returns jsonb
language plpgsql
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
declare
    unserved text;
begin
    delete from model_retraining_requests
    where status in ('completed', 'failed', 'cancelled')
      and coalesce(processed_at, updated_at) < p_closed_before
      and (model_name = p_model_name or not ml_pipeline_knows_model(model_name));
    for unserved in
        select distinct model_name from model_retraining_requests
        where status = 'pending' and created_at < p_pending_before
          and model_name <> p_model_name and not ml_pipeline_knows_model(model_name)
    loop
        perform ml_pipeline_expire_requests(unserved, p_now, p_pending_before);
    end loop;
    return ml_pipeline_expire_requests(p_model_name, p_now, p_pending_before);
end
$$;

-- As in 0003, and further: for a name that is known, in each day no more than the quotas (what was
-- cancelled counts), per model, and without what has expired.
create or replace function ml_pipeline_admit_request() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    caller uuid := public.ml_pipeline_caller();
    most jsonb;
    fresh timestamptz;
    found record;
begin
    new.requested_by := coalesce(new.requested_by, caller);
    new.created_at := now();
    new.by_user := true;
    if length(new.reason) > 2000 or length(new.model_name) > 200 then
        raise exception using errcode = 'MLP04',
            message = 'A reason has at most 2000 characters, the name of a model 200.';
    end if;
    -- An empty name is the check's to refuse.
    if new.model_name <> '' and not public.ml_pipeline_knows_model(new.model_name) then
        raise exception using errcode = 'MLP04',
            message = format('There is no model of the name %s.', to_json(new.model_name)),
            hint = 'Ask with the `model_name` of the settings; once a run was made, it is known.';
    end if;
    -- One at a time: two inserts must not both count the rows before the other's.
    perform pg_advisory_xact_lock(hashtextextended('ml_pipeline.open_requests', 0));
    select '{"open_requests_per_user": 3, "open_requests_total": 50, "requests_per_day": 200,
             "requests_per_user_and_day": 10, "request_expires_days": 14}'::jsonb
           || coalesce(jsonb_object_agg(name, value), '{}'::jsonb)
    into most from public.ml_pipeline_limits;
    fresh := now() - make_interval(days => (most ->> 'request_expires_days')::integer);
    perform public.ml_pipeline_expire_requests(new.model_name, now(), fresh);
    select count(*) filter (where is_open and requested_by = caller) as mine,
           count(*) filter (where is_open and is_here) as everyones,
           count(*) filter (where is_of_today and requested_by = caller) as mine_today,
           count(*) filter (where is_of_today and is_here) as everyones_today
    into found
    from (
        select requested_by,
               status = 'processing' or (status = 'pending' and created_at >= fresh) as is_open,
               created_at > now() - interval '1 day' as is_of_today,
               model_name = new.model_name and requested_by is not null as is_here
        from public.model_retraining_requests
        where status in ('pending', 'processing') or created_at > now() - interval '1 day'
    ) as counted;
    if found.mine >= (most ->> 'open_requests_per_user')::integer then
        raise exception using errcode = 'MLP06',
            message = format('You have %s open requests already; %s are allowed.',
                             found.mine, most ->> 'open_requests_per_user'),
            hint = 'Wait for them, or cancel one.';
    end if;
    if found.everyones >= (most ->> 'open_requests_total')::integer then
        raise exception using errcode = 'MLP06',
            message = format('%s requests are open already; %s are allowed.',
                             found.everyones, most ->> 'open_requests_total'),
            hint = 'Wait until the queue is shorter.';
    end if;
    if found.mine_today >= (most ->> 'requests_per_user_and_day')::integer then
        raise exception using errcode = 'MLP06',
            message = format('You have asked %s times within 24 hours; %s are allowed, also when '
                             'they were cancelled.',
                             found.mine_today, most ->> 'requests_per_user_and_day'),
            hint = 'Ask again tomorrow.';
    end if;
    if found.everyones_today >= (most ->> 'requests_per_day')::integer then
        raise exception using errcode = 'MLP06',
            message = format('Users have asked %s times within 24 hours; %s are allowed.',
                             found.everyones_today, most ->> 'requests_per_day'),
            hint = 'Ask again tomorrow.';
    end if;
    return new;
end
$$;

-- Add a pending request unless the service has too many open for that model: MLP06. Everything
-- else is as in `submit_retraining_request`. Requests that name nobody count in the total only.
create or replace function submit_retraining_request_within(
    p_request jsonb, p_per_user integer, p_total integer
) returns jsonb
language plpgsql
set search_path = pg_catalog, public, pg_temp
set timezone = 'UTC'
as $$
declare
    given model_retraining_requests :=
        jsonb_populate_record(null::model_retraining_requests, p_request);
    theirs bigint;
    everyone bigint;
begin
    -- The lock of the trigger: two submits must not both count the rows before the other's.
    perform pg_advisory_xact_lock(hashtextextended('ml_pipeline.open_requests', 0));
    if not exists (select from model_retraining_requests where id = given.id) then
        select count(*) filter (where requested_by = given.requested_by), count(*)
        into theirs, everyone
        from model_retraining_requests
        where status in ('pending', 'processing') and not by_user
          and model_name = coalesce(given.model_name, 'default');
        if theirs >= p_per_user then
            raise exception using errcode = 'MLP06',
                message = format(
                    '%s has %s open requests already; %s are allowed.',
                    given.requested_by, theirs, p_per_user
                );
        end if;
        if everyone >= p_total then
            raise exception using errcode = 'MLP06',
                message = format(
                    '%s requests are open already; %s are allowed.', everyone, p_total
                );
        end if;
    end if;
    return submit_retraining_request(p_request);
end
$$;

select ml_pipeline_lock(
    'ml_pipeline_knows_model', 'ml_pipeline_expire_requests', 'prune_retraining_requests',
    'ml_pipeline_admit_request', 'submit_retraining_request_within'
);

insert into ml_pipeline_schema_version (version, name) values (33, 'request_limits')
on conflict (version) do nothing;

notify pgrst, 'reload schema';
