-- What exploring needs: consent applied to exports, queues made of a list of chats, and exports in the order of their time.

alter table public.queues add column listed boolean not null default false; -- only the chats in queue_chats
create table public.queue_chats ( -- the chats of a queue that somebody made from an answer
  queue_id uuid not null references public.queues (id) on delete cascade,
  chat_id  uuid not null references public.chats (id) on delete cascade,
  steps    integer[] not null default '{}', -- the orders of the steps that are asked about; {}: the whole chat
  primary key (queue_id, chat_id)
);
create index queue_chats_chat_idx on public.queue_chats (chat_id);
alter table public.queue_chats enable row level security;

create or replace function private.queue_line(q public.queues) returns jsonb
language sql immutable set search_path = '' as $$
  select jsonb_build_array(q.id, q.name, q.guidelines, q.item_order, q.overlap, q.lease_s, q.checkpoint_id, q.source, q.words,
                           private.utc(q.created_at), q.task, q.asks, q.gold_rate, q.screening, q.screening_pass,
                           q.hint_checkpoint, q.archived, q.listed)
$$;

create or replace function private.items(p_queue_id uuid) returns table (chat_id uuid, other_id uuid, created_at timestamptz)
language sql stable set search_path = '' as $$
  select c.id, null::uuid, c.created_at from public.queues q, public.chats c
  where q.id = p_queue_id and q.task = 'rate'
    and case when q.listed then exists (select 1 from public.queue_chats l where l.queue_id = q.id and l.chat_id = c.id)
             when q.source is null then c.source <> 'rewrite' else c.source = q.source end
    and (q.words is null or position(lower(q.words) in lower(c.query)) > 0)
  union all
  select a.id, b.id, greatest(a.created_at, b.created_at) from public.queues q, public.chats a
  join public.chats b on b.query = a.query and a.id < b.id
  where q.id = p_queue_id and q.task = 'choose' and a.response <> b.response
    and case when q.source is null then a.source <> 'rewrite' and b.source <> 'rewrite'
             else a.source = q.source and b.source = q.source end
    and (not q.listed or (exists (select 1 from public.queue_chats l where l.queue_id = q.id and l.chat_id = a.id)
                          and exists (select 1 from public.queue_chats l where l.queue_id = q.id and l.chat_id = b.id)))
    and (q.words is null or position(lower(q.words) in lower(a.query)) > 0)
$$;

create or replace function public.save_queue(p_queue text) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare given jsonb := p_queue::jsonb; saved jsonb;
begin
  perform private.require_role('engineer', 'admin');
  insert into public.queues as q (id, name, guidelines, item_order, overlap, lease_s, checkpoint_id, source, words, task, asks,
                                  gold_rate, screening, screening_pass, hint_checkpoint, listed)
  select g.id, g.name, g.guidelines, g.item_order, g.overlap, g.lease_s, g.checkpoint_id, g.source, g.words, g.task, g.asks,
         g.gold_rate, g.screening, g.screening_pass, g.hint_checkpoint, coalesce(g.listed, false)
  from jsonb_to_record(given) as g (id uuid, name text, guidelines text, item_order text, overlap integer, lease_s integer,
    checkpoint_id text, source text, words text, task text, asks text, gold_rate double precision, screening integer,
    screening_pass double precision, hint_checkpoint text, listed boolean)
  on conflict (id) do update
  set name = excluded.name, guidelines = excluded.guidelines, item_order = excluded.item_order, overlap = excluded.overlap,
      lease_s = excluded.lease_s, checkpoint_id = excluded.checkpoint_id, source = excluded.source, words = excluded.words,
      task = excluded.task, asks = excluded.asks, gold_rate = excluded.gold_rate, screening = excluded.screening,
      screening_pass = excluded.screening_pass, hint_checkpoint = excluded.hint_checkpoint, listed = excluded.listed
  returning private.queue_line(q) into saved;
  return saved;
end $$;

-- the list takes the place of the one before; chats that are gone meanwhile are left out; returns how many there are
create function public.set_queue_chats(p_queue_id uuid, p_chats text) returns integer
language plpgsql volatile security definer set search_path = '' as $$
declare n integer;
begin
  perform private.require_role('engineer', 'admin');
  update public.queues set listed = true where id = p_queue_id;
  if not found then raise exception 'there is no queue %', p_queue_id using errcode = 'P0002'; end if;
  delete from public.queue_chats where queue_id = p_queue_id;
  insert into public.queue_chats (queue_id, chat_id, steps)
  select p_queue_id, c.id, array(select jsonb_array_elements_text(given.value)::integer)
  from jsonb_each(p_chats::jsonb) given join public.chats c on c.id = given.key::uuid;
  get diagnostics n = row_count;
  return n;
end $$;
create function public.steps_asked(p_queue_id uuid, p_chats text) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_object_agg(l.chat_id, l.steps), '{}') from public.queue_chats l
  where l.queue_id = p_queue_id and l.steps <> '{}' and (private.is_operator() or private.sees_all_chats())
    and l.chat_id in (select jsonb_array_elements_text(p_chats::jsonb)::uuid)
$$;

create function public.my_consent() returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_array(p.consent, private.utc(p.consent_at)) from public.profiles p where p.user_id = (select auth.uid())
$$;
create function public.set_consent(p_consent boolean) returns void
language sql volatile set search_path = '' as $$
  update public.profiles set consent = p_consent, consent_at = now() where user_id = (select auth.uid())
$$;

-- export: who withdrew their consent is left out, and so are their chats; in the order of its time ---------------
create function private.withdrawn() returns table (user_id uuid)
language sql stable security definer set search_path = '' as $$
  select p.user_id from public.profiles p where p.consent is false and p.consent_at is not null
$$;

create or replace function public.begin_export(p_export uuid) returns jsonb
language plpgsql volatile security definer set search_path = '' set statement_timeout = '5min' as $$
declare answer jsonb;
begin
  perform private.require_role('analyst', 'engineer', 'admin');
  delete from private.exports where begun_at < now() - interval '6 hours';
  delete from private.export_chats c where not exists (select 1 from private.exports e where e.id = c.export_id);
  delete from private.export_feedback f where not exists (select 1 from private.exports e where e.id = f.export_id);
  delete from private.export_lines l where not exists (select 1 from private.exports e where e.id = l.export_id);
  insert into private.exports (id, owner_id) values (p_export, auth.uid()) on conflict (id) do nothing;
  if not found then -- a repeat of a request whose answer was lost
    perform private.my_export(p_export);
    delete from private.export_chats where export_id = p_export;
    delete from private.export_feedback where export_id = p_export;
    delete from private.export_lines where export_id = p_export;
  end if;
  with withdrawn as materialized ( -- one statement, one moment
    select w.user_id from private.withdrawn() w
  ), chats_withdrawn as materialized (
    select c.id from public.chats c where c.owner_id in (select user_id from withdrawn)
  ), chats as (
    insert into private.export_chats (export_id, chat_id) select p_export, c.id from public.chats c
    where c.id not in (select id from chats_withdrawn) returning 1
  ), feedback as (
    insert into private.export_feedback (export_id, n, updated_at, line)
    select p_export, row_number() over (order by f.created_at, f.id), f.updated_at, private.feedback_line(f)
    from public.chat_feedback f
    where f.user_id not in (select user_id from withdrawn) and f.chat_id not in (select id from chats_withdrawn) returning 1
  ), lines as (
    insert into private.export_lines (export_id, kind, n, line)
    select p_export, 'chat_marks', row_number() over (order by m.updated_at, m.chat_id, m.user_id),
           jsonb_build_array(m.chat_id, m.user_id, m.first_error, to_jsonb(m.flags)::text, private.utc(m.updated_at))
    from public.chat_marks m
    where m.user_id not in (select user_id from withdrawn) and m.chat_id not in (select id from chats_withdrawn)
    union all
    select p_export, 'label_events', row_number() over (order by e.at, e.id),
           jsonb_build_array(e.id, e.chat_id, e.step_id, e.user_id, e.kind, e.value, private.utc(e.at))
    from public.label_events e
    where e.user_id not in (select user_id from withdrawn) and e.chat_id not in (select id from chats_withdrawn)
    union all
    select p_export, 'preferences', row_number() over (order by p.created_at, p.id), private.preference_line(p)
    from public.preferences p
    where p.user_id not in (select user_id from withdrawn)
      and p.chat_id not in (select id from chats_withdrawn) and p.other_id not in (select id from chats_withdrawn)
    union all
    select p_export, 'aspect_ratings', row_number() over (order by a.created_at, a.id), private.aspect_line(a)
    from public.aspect_ratings a
    where a.user_id not in (select user_id from withdrawn) and a.chat_id not in (select id from chats_withdrawn)
    union all
    select p_export, 'assignments', row_number() over (order by a.claimed_at, a.queue_id, a.chat_id, a.other_id nulls first, a.user_id),
           jsonb_build_array(a.queue_id, a.chat_id, a.other_id, a.user_id, a.status, private.utc(a.claimed_at), private.utc(a.finished_at))
    from public.assignments a
    where a.status <> 'open' and a.user_id not in (select user_id from withdrawn) and a.chat_id not in (select id from chats_withdrawn)
      and (a.other_id is null or a.other_id not in (select id from chats_withdrawn))
    union all
    select p_export, 'queues', row_number() over (order by q.id), jsonb_build_array(q.id, q.name, q.task) from public.queues q
    union all
    select p_export, 'gold_results', row_number() over (order by g.at, g.queue_id, g.chat_id, g.other_id nulls first, g.user_id),
           jsonb_build_array(g.queue_id, g.chat_id, g.other_id, g.user_id, g.asked, g.matched, private.utc(g.at))
    from public.gold_results g
    where g.counts and g.user_id not in (select user_id from withdrawn) and g.chat_id not in (select id from chats_withdrawn)
      and (g.other_id is null or g.other_id not in (select id from chats_withdrawn))
    union all
    select p_export, 'decisions', row_number() over (order by d.decided_at, d.id),
           jsonb_build_array(d.id, d.chat_id, d.other_id, d.step_id, d.kind, d.value, d.reason, d.decided_by, private.utc(d.decided_at))
    from public.decisions d
    where d.chat_id not in (select id from chats_withdrawn) and (d.other_id is null or d.other_id not in (select id from chats_withdrawn))
    union all
    select p_export, 'hints_shown',
           row_number() over (order by h.at, h.queue_id, h.chat_id, h.other_id nulls first, h.step_id nulls first, h.user_id),
           jsonb_build_array(h.queue_id, h.chat_id, h.other_id, h.step_id, h.user_id, h.checkpoint_id, h.reward, h.said, private.utc(h.at))
    from public.hints_shown h
    where h.user_id not in (select user_id from withdrawn) and h.chat_id not in (select id from chats_withdrawn)
      and (h.other_id is null or h.other_id not in (select id from chats_withdrawn))
    union all
    select p_export, 'people', row_number() over (order by p.user_id),
           jsonb_build_array(p.user_id, case p.origin when 'account' then 'local' else p.origin end,
                             case when p.consent then 'given' when p.consent_at is not null then 'withdrawn' end)
    from public.profiles p
    where exists (select 1 from public.chat_feedback f where f.user_id = p.user_id)
      or exists (select 1 from public.preferences f where f.user_id = p.user_id)
      or exists (select 1 from public.aspect_ratings f where f.user_id = p.user_id)
      or p.user_id in (select c.owner_id from public.chats c where c.owner_id is not null)
    returning kind
  )
  select jsonb_build_object(
    'chats', (select count(*) from chats), 'chat_feedback', (select count(*) from feedback),
    'reasoning_steps', (select count(*) from public.reasoning_steps s where s.chat_id not in (select id from chats_withdrawn)),
    'demo_raters', (select coalesce(jsonb_agg(p.user_id), '[]') from public.profiles p where p.origin = 'demo'))
    || (select coalesce(jsonb_object_agg(kind, n), '{}') from (select kind, count(*) as n from lines group by kind) k)
  into answer;
  return answer;
end $$;

-- Steps of the next chats in their order. A page ends at p_chats chats or about p_bytes of text, but holds one chat at least.
-- {"last": [created_at, id] of its last chat, "rows": [...]}; no last: there are no more.
create function public.export_steps_by_chat(p_export uuid, p_after_created_at timestamptz, p_after_id uuid, p_chats integer, p_bytes bigint)
returns jsonb
language plpgsql stable security definer set search_path = '' as $$
begin
  perform private.my_export(p_export);
  return (
    with next as materialized (
      select c.created_at, c.id from public.chats c
      where (p_after_id is null or (c.created_at, c.id) > (p_after_created_at, p_after_id))
        and exists (select 1 from private.export_chats e where e.export_id = p_export and e.chat_id = c.id)
      order by c.created_at, c.id limit p_chats
    ), sized as (
      select n.created_at, n.id, sum(coalesce(t.bytes, 0)) over (order by n.created_at, n.id) - coalesce(t.bytes, 0) as before
      from next n left join lateral (
        select sum(octet_length(s.step_content)) as bytes from public.reasoning_steps s where s.chat_id = n.id) t on true
    ), page as materialized (
      select z.created_at, z.id from sized z where z.before < p_bytes
    )
    select jsonb_build_object(
      'last', (select jsonb_build_array(private.utc(p.created_at), p.id) from page p order by p.created_at desc, p.id desc limit 1),
      'rows', coalesce(jsonb_agg(jsonb_build_array(s.id, s.chat_id, s.step_content, s.step_order, private.utc(s.created_at))
                                 order by p.created_at, p.id, s.step_order), '[]'))
    from page p join public.reasoning_steps s on s.chat_id = p.id);
end $$;
