-- What to label next and who has it; first errors and flags; every change of mind; what the label page sends, once each.
-- The same rules as the embedded store's 0003_labelling.sql.
create table public.queues (
  id            uuid primary key,
  name          text not null unique check (btrim(name) <> '' and length(name) <= 200),
  guidelines    text not null default '',
  item_order    text not null check (item_order in ('oldest', 'random', 'fewest', 'disagreement', 'uncertain', 'convincing')),
  overlap       integer not null check (overlap between 1 and 1000),
  lease_s       integer not null check (lease_s between 1 and 604800),
  checkpoint_id text,
  source        text,
  words         text,
  created_at    timestamptz not null default now(),
  archived      boolean not null default false,
  constraint queues_order_has_a_checkpoint check (checkpoint_id is not null or item_order not in ('uncertain', 'convincing'))
);
insert into public.queues (id, name, item_order, overlap, lease_s, created_at)
values ('00000000-0000-0000-0000-000000000001', 'Everything', 'oldest', 1, 1800, '2026-01-01T00:00:00Z');

create table public.queue_priorities (
  queue_id uuid not null references public.queues (id) on delete cascade,
  chat_id  uuid not null references public.chats (id) on delete cascade,
  priority double precision not null,
  primary key (queue_id, chat_id)
);

create table public.assignments (
  queue_id     uuid not null references public.queues (id) on delete cascade,
  chat_id      uuid not null references public.chats (id) on delete cascade,
  user_id      uuid not null references public.profiles (user_id) on delete cascade,
  status       text not null check (status in ('open', 'submitted', 'skipped')),
  leased_until timestamptz,
  claimed_at   timestamptz not null default now(),
  finished_at  timestamptz,
  reason       text check (length(reason) <= 500),
  primary key (queue_id, chat_id, user_id),
  check ((status = 'open') = (leased_until is not null)),
  check ((status = 'open') = (finished_at is null))
);
create index assignments_user_idx on public.assignments (user_id, queue_id, status);

create table public.chat_marks (
  user_id     uuid not null references public.profiles (user_id) on delete cascade,
  chat_id     uuid not null references public.chats (id) on delete cascade,
  first_error uuid,
  flags       text[] not null default '{}',
  updated_at  timestamptz not null default now(),
  primary key (user_id, chat_id),
  foreign key (chat_id, first_error) references public.reasoning_steps (chat_id, id) on delete cascade
);

create table public.label_events (
  id      uuid primary key,
  user_id uuid not null references public.profiles (user_id) on delete cascade,
  chat_id uuid not null references public.chats (id) on delete cascade,
  step_id uuid,
  kind    text not null check (kind in ('dwell', 'edit', 'skip')),
  value   double precision,
  at      timestamptz not null default now()
);
create index label_events_user_idx on public.label_events (user_id, at);

create table public.applied_ops (
  id         uuid primary key,
  user_id    uuid not null references public.profiles (user_id) on delete cascade,
  outcome    text not null,
  applied_at timestamptz not null default now()
);
create index applied_ops_user_idx on public.applied_ops (user_id);

create table public.feedback_history (
  n              bigint generated always as identity primary key,
  feedback_id    uuid not null,
  user_id        uuid not null references public.profiles (user_id) on delete cascade,
  chat_id        uuid not null references public.chats (id) on delete cascade,
  step_id        uuid,
  feedback_score smallint not null,
  scale          text not null,
  comment        text,
  given_at       timestamptz not null,
  withdrawn      boolean not null
);
create index feedback_history_user_idx on public.feedback_history (user_id, chat_id);

-- definer: nobody writes history but by changing something
create function private.keep_history() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  if tg_op = 'UPDATE' then
    if (new.feedback_score, new.scale, new.comment) is not distinct from (old.feedback_score, old.scale, old.comment) then
      return null;
    end if;
  elsif not exists (select 1 from public.profiles where user_id = old.user_id)
        or not exists (select 1 from public.chats where id = old.chat_id) then
    return null; -- it goes because its person or its chat goes
  end if;
  insert into public.feedback_history (feedback_id, user_id, chat_id, step_id, feedback_score, scale, comment, given_at, withdrawn)
  values (old.id, old.user_id, old.chat_id, old.step_id, old.feedback_score, old.scale, old.comment, old.updated_at,
          tg_op = 'DELETE');
  return null;
end $$;
create trigger feedback_history_kept after update or delete on public.chat_feedback
  for each row execute function private.keep_history();

alter table public.queues           enable row level security;
alter table public.queue_priorities enable row level security; -- no policy: reached through functions only
alter table public.assignments      enable row level security;
alter table public.chat_marks       enable row level security;
alter table public.label_events     enable row level security;
alter table public.applied_ops      enable row level security;
alter table public.feedback_history enable row level security;

create policy queues_select on public.queues for select to authenticated using ((select private.sees_all_chats()));
create policy assignments_select on public.assignments for select to authenticated
  using ((select private.sees_all_feedback()) or user_id = (select auth.uid()));
create policy marks_select on public.chat_marks for select to authenticated
  using ((select private.sees_all_feedback()) or user_id = (select auth.uid()));
create policy marks_insert on public.chat_marks for insert to authenticated
  with check (user_id = (select auth.uid()) and (select private.sees_all_chats()));
create policy marks_update on public.chat_marks for update to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()) and (select private.sees_all_chats()));
create policy events_select on public.label_events for select to authenticated
  using ((select private.sees_all_feedback()) or user_id = (select auth.uid()));
create policy events_insert on public.label_events for insert to authenticated
  with check (user_id = (select auth.uid()) and (select private.sees_all_chats()));
create policy ops_select on public.applied_ops for select to authenticated using (user_id = (select auth.uid()));
create policy ops_insert on public.applied_ops for insert to authenticated
  with check (user_id = (select auth.uid()) and (select private.sees_all_chats()));
create policy history_select on public.feedback_history for select to authenticated
  using ((select private.sees_all_feedback()) or user_id = (select auth.uid()));

-- queues ---------------------------------------------------------------------
create function private.queue_line(q public.queues) returns jsonb
language sql immutable set search_path = '' as $$
  select jsonb_build_array(q.id, q.name, q.guidelines, q.item_order, q.overlap, q.lease_s, q.checkpoint_id, q.source, q.words,
                           private.utc(q.created_at), q.archived)
$$;
create function public.list_queues() returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(jsonb_agg(private.queue_line(q) order by q.archived, q.created_at, q.id), '[]') from public.queues q
$$;

-- definer, as what follows on queues: they are everybody's, and engineers and administrators keep them
create function public.save_queue(p_id uuid, p_name text, p_guidelines text, p_item_order text, p_overlap integer, p_lease_s integer,
                                  p_checkpoint_id text, p_source text, p_words text) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare saved jsonb;
begin
  perform private.require_role('engineer', 'admin');
  insert into public.queues as q (id, name, guidelines, item_order, overlap, lease_s, checkpoint_id, source, words)
  values (p_id, p_name, p_guidelines, p_item_order, p_overlap, p_lease_s, p_checkpoint_id, p_source, p_words)
  on conflict (id) do update
  set name = excluded.name, guidelines = excluded.guidelines, item_order = excluded.item_order, overlap = excluded.overlap,
      lease_s = excluded.lease_s, checkpoint_id = excluded.checkpoint_id, source = excluded.source, words = excluded.words
  returning private.queue_line(q) into saved;
  return saved;
end $$;
create function public.archive_queue(p_id uuid, p_archived boolean) returns boolean
language plpgsql volatile security definer set search_path = '' as $$
begin
  perform private.require_role('engineer', 'admin');
  update public.queues set archived = p_archived where id = p_id;
  return found;
end $$;
create function public.set_priorities(p_queue_id uuid, p_priorities text) returns void
language plpgsql volatile security definer set search_path = '' as $$
begin
  perform private.require_role('engineer', 'admin');
  delete from public.queue_priorities where queue_id = p_queue_id;
  insert into public.queue_priorities (queue_id, chat_id, priority)
  select p_queue_id, key::uuid, value::double precision from jsonb_each_text(p_priorities::jsonb);
end $$;

-- definer: to hand out what is free, one has to see what the others hold
create function private.claim(p_queue_id uuid, p_count integer) returns uuid[]
language plpgsql volatile security definer set search_path = '' as $$
declare
  me uuid := auth.uid(); q public.queues; mine uuid[]; fresh uuid[];
begin
  perform private.require_role('annotator', 'analyst', 'engineer', 'admin');
  select * into q from public.queues where id = p_queue_id;
  if not found then raise exception 'there is no queue %; it may have been deleted', p_queue_id using errcode = 'P0002'; end if;
  if q.archived then raise exception 'the queue % is closed; choose another', q.name using errcode = 'P0002'; end if;
  perform pg_advisory_xact_lock(hashtextextended(p_queue_id::text, 0)); -- one at a time: nothing is handed out twice
  delete from public.assignments mine_ where mine_.queue_id = p_queue_id and mine_.user_id = me and mine_.status = 'open'
    and mine_.leased_until <= clock_timestamp()
    and (select count(*) from public.assignments a
         where a.queue_id = p_queue_id and a.chat_id = mine_.chat_id and a.user_id <> me
           and (a.status = 'submitted' or (a.status = 'open' and a.leased_until > clock_timestamp()))) >= q.overlap;
  update public.assignments a set leased_until = clock_timestamp() + make_interval(secs => q.lease_s)
    where a.queue_id = p_queue_id and a.user_id = me and a.status = 'open';
  select coalesce(array_agg(a.chat_id order by a.claimed_at, a.chat_id), '{}') into mine from public.assignments a
    where a.queue_id = p_queue_id and a.user_id = me and a.status = 'open';
  if cardinality(mine) < p_count then
    select coalesce(array_agg(id order by place), '{}') into fresh from (
      select c.id, row_number() over (order by
               case q.item_order
                 when 'random' then random()
                 when 'fewest' then (select count(distinct f.user_id) from public.chat_feedback f where f.chat_id = c.id)
                 when 'disagreement' then -coalesce((
                   select max(spread) from (select var_pop(f.feedback_score) as spread from public.chat_feedback f
                                            where f.chat_id = c.id group by f.step_id) by_step), 0)
                 when 'oldest' then 0
                 else -p.priority
               end, c.created_at, c.id) as place
      from public.chats c
      left join public.queue_priorities p on p.queue_id = q.id and p.chat_id = c.id
      where (q.source is null or c.source = q.source)
        and (q.words is null or position(lower(q.words) in lower(c.query)) > 0)
        and (q.item_order not in ('uncertain', 'convincing') or p.priority is not null)
        and not exists (select 1 from public.assignments a where a.queue_id = q.id and a.chat_id = c.id and a.user_id = me)
        and (select count(*) from public.assignments a
             where a.queue_id = q.id and a.chat_id = c.id
               and (a.status = 'submitted' or (a.status = 'open' and a.leased_until > clock_timestamp()))) < q.overlap
      order by place limit p_count - cardinality(mine)) free;
    insert into public.assignments (queue_id, chat_id, user_id, status, leased_until, claimed_at)
    select p_queue_id, f.id, me, 'open', clock_timestamp() + make_interval(secs => q.lease_s),
           clock_timestamp() + f.n * interval '1 microsecond' -- so that they stay in this order
    from unnest(fresh) with ordinality as f (id, n);
    mine := mine || fresh;
  end if;
  return mine[1:p_count];
end $$;

create function public.my_marks_of(p_chat_id uuid) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce((select jsonb_build_array(m.first_error, to_jsonb(m.flags)) from public.chat_marks m
                   where m.user_id = (select auth.uid()) and m.chat_id = p_chat_id), '[null, []]')
$$;
create or replace function public.label_view(p_chat_id uuid) returns jsonb
language sql stable set search_path = '' as $$
  select public.get_chat(p_chat_id) || jsonb_build_object(
    'ratings', public.my_ratings(p_chat_id), 'marks', public.my_marks_of(p_chat_id), 'progress', public.my_progress())
$$;
create function public.claim(p_queue_id uuid, p_count integer) returns jsonb
language plpgsql volatile set search_path = '' as $$
declare ids uuid[];
begin
  ids := private.claim(p_queue_id, p_count);
  return jsonb_build_object('progress', public.my_progress(), 'views', (
    select coalesce(jsonb_agg(public.get_chat(id) || jsonb_build_object(
             'ratings', public.my_ratings(id), 'marks', public.my_marks_of(id)) order by n), '[]')
    from unnest(ids) with ordinality as t (id, n)));
end $$;
-- definer: assignments are written by these functions only
create function public.release(p_queue_id uuid, p_chat_id uuid default null) returns void
language sql volatile security definer set search_path = '' as $$
  delete from public.assignments a where a.queue_id = p_queue_id and a.user_id = auth.uid() and a.status = 'open'
    and (p_chat_id is null or a.chat_id = p_chat_id)
$$;
create function private.finish(p_queue_id uuid, p_chat_id uuid, p_status text, p_reason text) returns boolean
language plpgsql volatile security definer set search_path = '' as $$
declare me uuid := auth.uid(); wanted integer;
begin
  perform private.require_role('annotator', 'analyst', 'engineer', 'admin');
  select overlap into wanted from public.queues where id = p_queue_id;
  if not found or not exists (select 1 from public.chats where id = p_chat_id) then return false; end if;
  perform pg_advisory_xact_lock(hashtextextended(p_queue_id::text, 0));
  if p_status <> 'skipped'
     and not exists (select 1 from public.assignments a where a.queue_id = p_queue_id and a.chat_id = p_chat_id and a.user_id = me
                     and (a.status = 'submitted' or a.leased_until > clock_timestamp()))
     and (select count(*) from public.assignments a
          where a.queue_id = p_queue_id and a.chat_id = p_chat_id and a.user_id <> me
            and (a.status = 'submitted' or (a.status = 'open' and a.leased_until > clock_timestamp()))) >= wanted then
    return false; -- the lease ran out, and others have it now
  end if;
  insert into public.assignments (queue_id, chat_id, user_id, status, finished_at, reason)
  values (p_queue_id, p_chat_id, me, p_status, now(), p_reason)
  on conflict (queue_id, chat_id, user_id) do update
  set status = excluded.status, leased_until = null, finished_at = excluded.finished_at, reason = excluded.reason;
  return true;
end $$;
-- definer: how far the whole queue is, of which a person sees their own part
create function public.queue_progress(p_queue_id uuid) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
begin
  perform private.require_role('annotator', 'analyst', 'engineer', 'admin');
  return (select jsonb_build_array(
    (select count(*) from public.assignments a where a.queue_id = q.id and a.user_id = auth.uid() and a.status = 'submitted'),
    (select count(*) from public.assignments a where a.queue_id = q.id and a.user_id = auth.uid() and a.status = 'skipped'),
    (select count(*) from public.chats c where (q.source is null or c.source = q.source)
       and (q.words is null or position(lower(q.words) in lower(c.query)) > 0)),
    (select count(*) from (select 1 from public.assignments a where a.queue_id = q.id and a.status = 'submitted'
                           group by a.chat_id having count(*) >= q.overlap) done))
  from public.queues q where q.id = p_queue_id);
end $$;

-- what the label page sends --------------------------------------------------
-- [id, kind, chat_id, step_id, value] each; in order, in one transaction; one that was applied before is not applied again.
-- The answer: [id, outcome] each, '' for stored. One that cannot be stored stops none of the others.
create function public.apply_ops(p_ops text) returns jsonb
language plpgsql volatile set search_path = '' as $$
declare
  op jsonb; outcomes jsonb := '[]'; outcome text; chat uuid; step uuid; value jsonb; done boolean; me uuid := auth.uid();
begin
  for op in select o from jsonb_array_elements(p_ops::jsonb) as o loop
    select a.outcome into outcome from public.applied_ops a where a.id = (op ->> 0)::uuid and a.user_id = me;
    if not found then
      outcome := '';
      chat := (op ->> 2)::uuid; step := (op ->> 3)::uuid; value := op -> 4; done := true;
      begin
        case op ->> 1
          when 'rate' then
            done := public.rate(gen_random_uuid(), chat, step, (value ->> 'score')::integer, value ->> 'scale') is not null;
          when 'comment' then
            if public.comment_on(chat, step, nullif(btrim(value ->> 'text'), '')) is null then
              outcome := 'There is no rating to comment on yet. Rate first, then comment.';
            end if;
          when 'withdraw' then perform public.withdraw(chat, step);
          when 'first_error' then
            insert into public.chat_marks as m (user_id, chat_id, first_error)
            select me, c.id, step from public.chats c where c.id = chat and (step is null or exists (
              select 1 from public.reasoning_steps s where s.id = step and s.chat_id = chat))
            on conflict (user_id, chat_id) do update set first_error = excluded.first_error, updated_at = now();
            done := found;
          when 'flag' then
            insert into public.chat_marks as m (user_id, chat_id, flags)
            select me, c.id, array[value ->> 'flag'] from public.chats c where c.id = chat
            on conflict (user_id, chat_id) do update
            set flags = (select array_agg(distinct f order by f) from unnest(m.flags || excluded.flags) as f), updated_at = now();
            done := found;
          when 'unflag' then
            update public.chat_marks m set flags = array_remove(m.flags, value ->> 'flag'), updated_at = now()
            where m.user_id = me and m.chat_id = chat;
          when 'dwell', 'edit' then
            insert into public.label_events (id, user_id, chat_id, step_id, kind, value)
            select (op ->> 0)::uuid, me, c.id, step, op ->> 1, (value ->> 'ms')::double precision
            from public.chats c where c.id = chat;
          when 'submit', 'skip' then
            if not private.finish((value ->> 'queue')::uuid, chat, case op ->> 1 when 'skip' then 'skipped' else 'submitted' end,
                                  nullif(left(btrim(value ->> 'reason'), 500), '')) then
              outcome := 'This chat had been handed to somebody else after your time for it ran out, or it is gone. '
                         || 'Your ratings are kept.';
            elsif op ->> 1 = 'skip' and coalesce((value ->> 'noted')::boolean, true) then
              insert into public.label_events (id, user_id, chat_id, step_id, kind) values ((op ->> 0)::uuid, me, chat, step, 'skip');
            end if;
          else outcome := 'The page sent ''' || (op ->> 1) || ''', which is unknown here. Reload the page.';
        end case;
        if not done then
          outcome := 'This chat, or this step of it, is no longer there. Reload the page.';
        end if;
      exception
        when integrity_constraint_violation or data_exception then outcome := 'The store refuses this: ' || sqlerrm || '.';
      end;
      insert into public.applied_ops (id, user_id, outcome) values ((op ->> 0)::uuid, me, outcome) on conflict (id) do nothing;
    end if;
    outcomes := outcomes || jsonb_build_array(jsonb_build_array(op ->> 0, outcome));
  end loop;
  return outcomes;
end $$;

-- my work --------------------------------------------------------------------
create function public.my_history(p_before timestamptz, p_limit integer) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_array(chat_id, query, n, private.utc(last_at), mean) order by last_at desc, chat_id), '[]')
  from (select f.chat_id, c.query, count(*) as n, max(f.updated_at) as last_at, avg(f.feedback_score)::double precision as mean
        from public.chat_feedback f join public.chats c on c.id = f.chat_id
        where f.user_id = (select auth.uid())
        group by f.chat_id, c.query having p_before is null or max(f.updated_at) < p_before
        order by last_at desc, f.chat_id limit p_limit) worked
$$;
create function public.my_changes(p_chat_id uuid) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_array(h.step_id, h.feedback_score, h.scale, h.comment, private.utc(h.given_at), h.withdrawn)
                            order by h.given_at, h.n), '[]')
  from public.feedback_history h where h.user_id = (select auth.uid()) and h.chat_id = p_chat_id
$$;
create function public.my_everything() returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_object(
    'feedback', (select coalesce(jsonb_agg(private.feedback_line(f) order by f.created_at, f.id), '[]')
                 from public.chat_feedback f where f.user_id = (select auth.uid())),
    'marks', (select coalesce(jsonb_agg(jsonb_build_array(m.chat_id, m.first_error, to_jsonb(m.flags)::text, private.utc(m.updated_at))
                                        order by m.chat_id), '[]')
              from public.chat_marks m where m.user_id = (select auth.uid())),
    'events', (select coalesce(jsonb_agg(jsonb_build_array(e.id, e.chat_id, e.step_id, e.kind, e.value, private.utc(e.at))
                                         order by e.at, e.id), '[]')
               from public.label_events e where e.user_id = (select auth.uid())))
$$;
-- definer: history and assignments are nobody's to write, but one's own may go
create function public.erase_mine() returns bigint
language plpgsql volatile security definer set search_path = '' as $$
declare erased bigint; me uuid := auth.uid();
begin
  if me is null then raise exception 'nobody is signed in' using errcode = '42501'; end if;
  delete from public.chat_feedback where user_id = me;
  get diagnostics erased = row_count;
  delete from public.feedback_history where user_id = me;
  delete from public.chat_marks where user_id = me;
  delete from public.label_events where user_id = me;
  delete from public.assignments where user_id = me;
  return erased;
end $$;
