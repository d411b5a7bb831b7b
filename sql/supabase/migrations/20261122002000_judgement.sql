-- Preferences, rubrics and their aspects, rewritten steps, known answers (gold), decisions on disputes, hints after the fact.
-- The same rules as the embedded store's 0004_judgement.sql.
alter table public.queues
  add column task            text not null default 'rate' check (task in ('rate', 'choose')),
  add column asks            text not null default 'everything' check (asks in ('everything', 'aspects')),
  add column gold_rate       double precision not null default 0 check (gold_rate between 0 and 0.5),
  add column screening       integer not null default 0 check (screening between 0 and 100),
  add column screening_pass  double precision not null default 0.7 check (screening_pass between 0 and 1),
  add column hint_checkpoint text;
insert into public.queues (id, name, item_order, overlap, lease_s, created_at, task)
select '00000000-0000-0000-0000-000000000002',
       case when exists (select 1 from public.queues where name = 'Every two answers') then 'Every two answers (pairs)'
            else 'Every two answers' end, 'oldest', 1, 1800, '2026-01-01T00:00:01Z', 'choose';

create index chats_query_idx on public.chats using hash (query); -- two answers to one question find each other

-- an item is a chat, or two chats with one question
alter table public.assignments
  add column other_id uuid references public.chats (id) on delete cascade,
  drop constraint assignments_pkey,
  add constraint assignments_once unique nulls not distinct (queue_id, chat_id, other_id, user_id),
  add constraint assignments_one_way check (other_id is null or chat_id < other_id);
create index assignments_other_idx on public.assignments (other_id) where other_id is not null;

create table public.preferences ( -- which of two answers to one question is better: as a whole, up to a step, or in one aspect
  id         uuid primary key,
  chat_id    uuid not null references public.chats (id) on delete cascade,
  other_id   uuid not null references public.chats (id) on delete cascade,
  step_order integer check (step_order >= 1), -- null: the whole answers
  aspect     text not null default '', -- '': all in all
  user_id    uuid not null default auth.uid() references public.profiles (user_id) on delete cascade,
  verdict    text not null check (verdict in ('chat', 'other', 'tie', 'both_bad')), -- 'chat': chat_id is better
  strength   smallint check (strength between 1 and 3), -- 1 slightly, 2 clearly, 3 much
  shown_left uuid, -- which of the two stood on the left; null: it is not known
  comment    text check (length(comment) <= 8000),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint preferences_one_way check (chat_id < other_id),
  constraint preferences_strength check (strength is null or verdict in ('chat', 'other')),
  constraint preferences_left check (shown_left is null or shown_left in (chat_id, other_id)),
  constraint preferences_once unique nulls not distinct (user_id, chat_id, other_id, step_order, aspect)
);
create index preferences_pair_idx on public.preferences (chat_id, other_id);
create index preferences_other_idx on public.preferences (other_id);

create table public.rubrics ( -- what a queue asks beside the score; a version never changes
  queue_id   uuid not null references public.queues (id) on delete cascade,
  version    integer not null check (version >= 1),
  aspects    text not null check (jsonb_typeof(aspects::jsonb) = 'array'),
  created_at timestamptz not null default now(),
  primary key (queue_id, version)
);

create table public.aspect_ratings (
  id             uuid primary key,
  chat_id        uuid not null references public.chats (id) on delete cascade,
  step_id        uuid, -- null: the whole answer
  user_id        uuid not null default auth.uid() references public.profiles (user_id) on delete cascade,
  queue_id       uuid, -- null, as the version: it came with a file
  rubric_version integer, -- whose anchors the person saw
  aspect         text not null check (btrim(aspect) <> ''),
  score          smallint not null check (score between 1 and 5),
  created_at     timestamptz not null default now(),
  updated_at     timestamptz not null default now(),
  check ((queue_id is null) = (rubric_version is null)),
  foreign key (queue_id, rubric_version) references public.rubrics (queue_id, version) on delete cascade,
  foreign key (chat_id, step_id) references public.reasoning_steps (chat_id, id) on delete cascade,
  constraint aspect_ratings_once unique nulls not distinct (user_id, chat_id, step_id, aspect)
);
create index aspect_ratings_chat_idx on public.aspect_ratings (chat_id, step_id);
create index aspect_ratings_rubric_idx on public.aspect_ratings (queue_id, rubric_version);

create table public.rewrites ( -- a better step; the answer up to it is a chat of its own (source 'rewrite')
  user_id    uuid not null references public.profiles (user_id) on delete cascade,
  step_id    uuid not null references public.reasoning_steps (id) on delete cascade,
  rewrite_id uuid not null references public.chats (id) on delete cascade,
  text       text not null check (btrim(text) <> ''),
  updated_at timestamptz not null default now(),
  primary key (user_id, step_id)
);
create index rewrites_step_idx on public.rewrites (step_id);
create index rewrites_chat_idx on public.rewrites (rewrite_id);

create table public.gold ( -- items whose answer is known
  id          uuid primary key,
  chat_id     uuid not null references public.chats (id) on delete cascade,
  other_id    uuid references public.chats (id) on delete cascade,
  answer      text not null check (jsonb_typeof(answer::jsonb) = 'object'),
  explanation text not null default '',
  created_by  uuid references public.profiles (user_id) on delete set null,
  created_at  timestamptz not null default now(),
  constraint gold_one_way check (other_id is null or chat_id < other_id),
  constraint gold_once unique nulls not distinct (chat_id, other_id)
);

create table public.gold_results ( -- how somebody did, when they first submitted it; what they change afterwards does not count
  n        bigint generated always as identity primary key,
  queue_id uuid not null references public.queues (id) on delete cascade,
  chat_id  uuid not null references public.chats (id) on delete cascade,
  other_id uuid references public.chats (id) on delete cascade,
  user_id  uuid not null references public.profiles (user_id) on delete cascade,
  asked    integer not null check (asked >= 1),
  matched  integer not null check (matched between 0 and asked),
  detail   jsonb not null, -- [[place, known, given, same], ...]
  at       timestamptz not null default now(),
  counts   boolean not null default true -- false: somebody may try again; that they were told stays
);
create unique index gold_results_once on public.gold_results (user_id, queue_id, chat_id, other_id) nulls not distinct where counts;
create index gold_results_queue_idx on public.gold_results (queue_id, user_id);

create table public.decisions ( -- what counts where raters dispute
  id         uuid primary key,
  chat_id    uuid not null references public.chats (id) on delete cascade,
  other_id   uuid references public.chats (id) on delete cascade,
  step_id    uuid,
  kind       text not null check (kind in ('score', 'first_error', 'preference')),
  value      text not null, -- 1-5; a step's id, or '' for none; a verdict
  reason     text not null check (btrim(reason) <> '' and length(reason) <= 8000),
  decided_by uuid references public.profiles (user_id) on delete set null,
  decided_at timestamptz not null default now(),
  constraint decisions_of_pairs check ((kind = 'preference') = (other_id is not null)),
  constraint decisions_score check (kind <> 'score' or value in ('1', '2', '3', '4', '5')),
  constraint decisions_verdict check (kind <> 'preference' or value in ('chat', 'other', 'tie', 'both_bad')),
  constraint decisions_step foreign key (chat_id, step_id) references public.reasoning_steps (chat_id, id) on delete cascade,
  constraint decisions_once unique nulls not distinct (chat_id, other_id, step_id, kind)
);

create table public.hints ( -- a checkpoint's rewards, made ahead so that nobody waits for them
  queue_id      uuid not null references public.queues (id) on delete cascade,
  chat_id       uuid not null references public.chats (id) on delete cascade,
  checkpoint_id text not null,
  rewards       jsonb not null, -- {step id, or "" for the whole answer: stars}
  primary key (queue_id, chat_id)
);
create table public.hints_shown ( -- what somebody had said when they saw what the checkpoint thinks
  queue_id      uuid not null references public.queues (id) on delete cascade,
  chat_id       uuid not null references public.chats (id) on delete cascade,
  other_id      uuid references public.chats (id) on delete cascade,
  step_id       uuid,
  user_id       uuid not null references public.profiles (user_id) on delete cascade,
  checkpoint_id text not null,
  reward        double precision not null, -- stars; of two answers, how much more chat_id's is
  said          text not null, -- a score, or a verdict
  at            timestamptz not null default now(),
  constraint hints_shown_once unique nulls not distinct (user_id, queue_id, chat_id, other_id, step_id)
);

alter table public.preferences    enable row level security;
alter table public.rubrics        enable row level security;
alter table public.aspect_ratings enable row level security;
alter table public.rewrites       enable row level security;
alter table public.gold           enable row level security;
alter table public.gold_results   enable row level security;
alter table public.decisions      enable row level security;
alter table public.hints          enable row level security; -- no policy: reached through functions only
alter table public.hints_shown    enable row level security;

create function private.is_pair(p_chat_id uuid, p_other_id uuid) returns boolean
language sql stable set search_path = '' as $$
  select exists (select 1 from public.chats a join public.chats b on b.query = a.query where a.id = p_chat_id and b.id = p_other_id)
$$;
create function private.asks(p_queue_id uuid, p_version integer, p_aspect text) returns boolean
language sql stable set search_path = '' as $$
  select exists (select 1 from public.rubrics r cross join jsonb_array_elements(r.aspects::jsonb) as t (one)
                 where r.queue_id = p_queue_id and r.version = p_version and t.one ->> 'key' = p_aspect)
$$;

-- A rewritten answer says which step somebody found wrong: annotators see their own, and those handed to them.
create function private.others_rewrites() returns setof uuid
language sql stable security definer set search_path = '' as $$
  select c.id from public.chats c where c.source = 'rewrite' and c.owner_id is distinct from (select auth.uid())
    and not exists (select 1 from public.assignments a where a.user_id = (select auth.uid()) and c.id in (a.chat_id, a.other_id))
$$;
create index chats_rewrites_idx on public.chats (id) where source = 'rewrite';
drop policy chats_select on public.chats;
create policy chats_select on public.chats for select to authenticated
  using ((select private.sees_all_feedback()) or owner_id = (select auth.uid())
         or ((select private.sees_all_chats()) and (source <> 'rewrite' or id not in (select private.others_rewrites()))));
drop policy steps_select on public.reasoning_steps;
create policy steps_select on public.reasoning_steps for select to authenticated
  using ((select private.sees_all_feedback()) or chat_id in (select private.my_chats())
         or ((select private.sees_all_chats()) and chat_id not in (select private.others_rewrites())));

create policy rubrics_select on public.rubrics for select to authenticated using ((select private.sees_all_chats()));
create policy preferences_select on public.preferences for select to authenticated
  using ((select private.sees_all_feedback()) or user_id = (select auth.uid()));
create policy preferences_insert on public.preferences for insert to authenticated
  with check (user_id = (select auth.uid()) and (select private.sees_all_chats()) and private.is_pair(chat_id, other_id));
create policy preferences_update on public.preferences for update to authenticated
  using (user_id = (select auth.uid()))
  with check (user_id = (select auth.uid()) and (select private.sees_all_chats()) and private.is_pair(chat_id, other_id));
create policy preferences_delete on public.preferences for delete to authenticated using (user_id = (select auth.uid()));
create policy aspects_select on public.aspect_ratings for select to authenticated
  using ((select private.sees_all_feedback()) or user_id = (select auth.uid()));
create policy aspects_insert on public.aspect_ratings for insert to authenticated
  with check (user_id = (select auth.uid()) and (select private.sees_all_chats())
              and private.asks(queue_id, rubric_version, aspect));
create policy aspects_update on public.aspect_ratings for update to authenticated
  using (user_id = (select auth.uid()))
  with check (user_id = (select auth.uid()) and (select private.sees_all_chats())
              and private.asks(queue_id, rubric_version, aspect));
create policy aspects_delete on public.aspect_ratings for delete to authenticated using (user_id = (select auth.uid()));
create policy rewrites_select on public.rewrites for select to authenticated
  using ((select private.sees_all_feedback()) or user_id = (select auth.uid()));
-- known answers and decisions are out of annotators' sight: who knows the answer is not measured by it
create policy gold_select on public.gold for select to authenticated using ((select private.sees_all_feedback()));
create policy gold_results_select on public.gold_results for select to authenticated
  using ((select private.sees_all_feedback()) or user_id = (select auth.uid()));
create policy decisions_select on public.decisions for select to authenticated using ((select private.sees_all_feedback()));
create policy hints_shown_select on public.hints_shown for select to authenticated
  using ((select private.sees_all_feedback()) or user_id = (select auth.uid()));

-- queues and their rubrics ---------------------------------------------------
create or replace function private.queue_line(q public.queues) returns jsonb
language sql immutable set search_path = '' as $$
  select jsonb_build_array(q.id, q.name, q.guidelines, q.item_order, q.overlap, q.lease_s, q.checkpoint_id, q.source, q.words,
                           private.utc(q.created_at), q.task, q.asks, q.gold_rate, q.screening, q.screening_pass,
                           q.hint_checkpoint, q.archived)
$$;
drop function public.save_queue(uuid, text, text, text, integer, integer, text, text, text);
create function public.save_queue(p_queue text) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare given jsonb := p_queue::jsonb; saved jsonb;
begin
  perform private.require_role('engineer', 'admin');
  insert into public.queues as q (id, name, guidelines, item_order, overlap, lease_s, checkpoint_id, source, words, task, asks,
                                  gold_rate, screening, screening_pass, hint_checkpoint)
  select g.id, g.name, g.guidelines, g.item_order, g.overlap, g.lease_s, g.checkpoint_id, g.source, g.words, g.task, g.asks,
         g.gold_rate, g.screening, g.screening_pass, g.hint_checkpoint
  from jsonb_to_record(given) as g (id uuid, name text, guidelines text, item_order text, overlap integer, lease_s integer,
    checkpoint_id text, source text, words text, task text, asks text, gold_rate double precision, screening integer,
    screening_pass double precision, hint_checkpoint text)
  on conflict (id) do update
  set name = excluded.name, guidelines = excluded.guidelines, item_order = excluded.item_order, overlap = excluded.overlap,
      lease_s = excluded.lease_s, checkpoint_id = excluded.checkpoint_id, source = excluded.source, words = excluded.words,
      task = excluded.task, asks = excluded.asks, gold_rate = excluded.gold_rate, screening = excluded.screening,
      screening_pass = excluded.screening_pass, hint_checkpoint = excluded.hint_checkpoint
  returning private.queue_line(q) into saved;
  return saved;
end $$;

create function public.get_rubric(p_queue_id uuid) returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_array(r.queue_id, r.version, r.aspects, private.utc(r.created_at)) from public.rubrics r
  where r.queue_id = p_queue_id order by r.version desc limit 1
$$;
create function public.save_rubric(p_queue_id uuid, p_aspects text) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
begin
  perform private.require_role('engineer', 'admin');
  perform 1 from public.queues q where q.id = p_queue_id for update; -- two at once get two versions
  if not found then return null; end if;
  if p_aspects::jsonb is distinct from (select r.aspects::jsonb from public.rubrics r where r.queue_id = p_queue_id
                                        order by r.version desc limit 1) then
    insert into public.rubrics (queue_id, version, aspects)
    select p_queue_id, 1 + coalesce(max(r.version), 0), p_aspects from public.rubrics r where r.queue_id = p_queue_id;
  end if;
  return public.get_rubric(p_queue_id);
end $$;

-- What a queue can hand out. Rewritten answers only where a queue asks for them by their source.
create function private.items(p_queue_id uuid) returns table (chat_id uuid, other_id uuid, created_at timestamptz)
language sql stable set search_path = '' as $$
  select c.id, null::uuid, c.created_at from public.queues q, public.chats c
  where q.id = p_queue_id and q.task = 'rate'
    and case when q.source is null then c.source <> 'rewrite' else c.source = q.source end
    and (q.words is null or position(lower(q.words) in lower(c.query)) > 0)
  union all
  select a.id, b.id, greatest(a.created_at, b.created_at) from public.queues q, public.chats a
  join public.chats b on b.query = a.query and a.id < b.id
  where q.id = p_queue_id and q.task = 'choose' and a.response <> b.response
    and case when q.source is null then a.source <> 'rewrite' and b.source <> 'rewrite'
             else a.source = q.source and b.source = q.source end
    and (q.words is null or position(lower(q.words) in lower(a.query)) > 0)
$$;
create function private.is_gold(p_chat_id uuid, p_other_id uuid) returns boolean
language sql stable security definer set search_path = '' as $$
  select exists (select 1 from public.gold g where g.chat_id = p_chat_id and g.other_id is not distinct from p_other_id)
$$;

-- definer: to hand out what is free, one has to see what the others hold. {"items": [[chat, other], ...]}, or
-- {"failed": [share, needed]} for somebody whose screening was not right often enough.
drop function public.claim(uuid, integer);
drop function private.claim(uuid, integer);
create function private.claim(p_queue_id uuid, p_count integer) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare
  me uuid := auth.uid(); q public.queues; mine jsonb; gold jsonb := '[]'; work jsonb; fresh jsonb := '[]'; held integer;
  answered integer; share double precision; room integer; golden boolean;
begin
  perform private.require_role('annotator', 'analyst', 'engineer', 'admin');
  select * into q from public.queues where id = p_queue_id;
  if not found then raise exception 'there is no queue %; it may have been deleted', p_queue_id using errcode = 'P0002'; end if;
  if q.archived then raise exception 'the queue % is closed; choose another', q.name using errcode = 'P0002'; end if;
  golden := q.screening > 0 or q.gold_rate > 0;
  perform pg_advisory_xact_lock(hashtextextended(p_queue_id::text, 0)); -- one at a time: nothing is handed out twice
  delete from public.assignments m where m.queue_id = p_queue_id and m.user_id = me and m.status = 'open'
    and m.leased_until <= clock_timestamp() and not (golden and private.is_gold(m.chat_id, m.other_id))
    and (select count(*) from public.assignments a
         where a.queue_id = p_queue_id and a.chat_id = m.chat_id and a.other_id is not distinct from m.other_id and a.user_id <> me
           and (a.status = 'submitted' or (a.status = 'open' and a.leased_until > clock_timestamp()))) >= q.overlap;
  update public.assignments a set leased_until = clock_timestamp() + make_interval(secs => q.lease_s)
    where a.queue_id = p_queue_id and a.user_id = me and a.status = 'open';
  select coalesce(jsonb_agg(jsonb_build_array(a.chat_id, a.other_id) order by a.claimed_at, a.chat_id, a.other_id), '[]'),
         count(*) filter (where private.is_gold(a.chat_id, a.other_id))
    into mine, held from public.assignments a
    where a.queue_id = p_queue_id and a.user_id = me and a.status = 'open';
  room := p_count - jsonb_array_length(mine);
  if room <= 0 then
    return jsonb_build_object('items', (select jsonb_agg(i order by n) from jsonb_array_elements(mine) with ordinality as t (i, n)
                                        where n <= p_count));
  end if;
  select count(*), avg(s.right_share) into answered, share from (
    select 1.0 * r.matched / r.asked as right_share from public.gold_results r
    where r.queue_id = p_queue_id and r.user_id = me and r.counts order by r.n limit q.screening) s;
  if golden then -- whose answer this person was told already comes last, and only in a screening
    select coalesce(jsonb_agg(jsonb_build_array(i.chat_id, i.other_id) order by i.told, i.lot), '[]') into gold from (
      select i.chat_id, i.other_id, t.told, random() as lot from private.items(p_queue_id) i
      join public.gold g on g.chat_id = i.chat_id and g.other_id is not distinct from i.other_id
      cross join lateral (select exists (select 1 from public.gold_results r where r.user_id = me and r.chat_id = i.chat_id
                                         and r.other_id is not distinct from i.other_id) as told) t
      where (not t.told or answered < q.screening)
        and not exists (select 1 from public.assignments a where a.queue_id = p_queue_id and a.chat_id = i.chat_id
                        and a.other_id is not distinct from i.other_id and a.user_id = me)
      order by t.told, lot limit room) i;
  end if;
  if q.screening > 0 then
    if answered < q.screening and (held > 0 or jsonb_array_length(gold) > 0) then
      -- the known answers that are missing, and nothing else before these are answered
      select coalesce(jsonb_agg(i order by n), '[]') into fresh from jsonb_array_elements(gold) with ordinality as t (i, n)
      where n <= greatest(0, q.screening - answered - held);
      room := 0;
    elsif answered > 0 and share < q.screening_pass then
      return jsonb_build_object('failed', jsonb_build_array(share, q.screening_pass));
    end if;
  end if;
  if room > 0 then
    select coalesce(jsonb_agg(jsonb_build_array(f.chat_id, f.other_id) order by f.place), '[]') into work from (
      select i.chat_id, i.other_id, row_number() over (order by
               case q.item_order
                 when 'random' then random()
                 when 'fewest' then case when i.other_id is null
                   then (select count(distinct f.user_id) from public.chat_feedback f where f.chat_id = i.chat_id)
                   else (select count(distinct f.user_id) from public.preferences f
                         where f.chat_id = i.chat_id and f.other_id = i.other_id) end
                 when 'disagreement' then case when i.other_id is null
                   then -coalesce((select max(spread) from (select var_pop(f.feedback_score) as spread from public.chat_feedback f
                                                            where f.chat_id = i.chat_id group by f.step_id) by_step), 0)
                   else -(select count(distinct f.verdict) from public.preferences f
                          where f.chat_id = i.chat_id and f.other_id = i.other_id and f.step_order is null and f.aspect = '') end
                 when 'oldest' then 0
                 else -p.priority
               end, i.created_at, i.chat_id, i.other_id) as place
      from private.items(p_queue_id) i
      left join public.queue_priorities p on p.queue_id = q.id and p.chat_id = i.chat_id
      where (q.item_order not in ('uncertain', 'convincing') or p.priority is not null)
        and not exists (select 1 from public.assignments a where a.queue_id = q.id and a.chat_id = i.chat_id
                        and a.other_id is not distinct from i.other_id and a.user_id = me)
        and (select count(*) from public.assignments a
             where a.queue_id = q.id and a.chat_id = i.chat_id and a.other_id is not distinct from i.other_id
               and (a.status = 'submitted' or (a.status = 'open' and a.leased_until > clock_timestamp()))) < q.overlap
        and not (golden and private.is_gold(i.chat_id, i.other_id))
      order by place limit room) f;
    for k in 1 .. room loop
      if jsonb_array_length(gold) > 0 and random() < q.gold_rate then
        fresh := fresh || jsonb_build_array(gold -> 0); gold := gold - 0;
      elsif jsonb_array_length(work) > 0 then
        fresh := fresh || jsonb_build_array(work -> 0); work := work - 0;
      end if;
    end loop;
  end if;
  insert into public.assignments (queue_id, chat_id, other_id, user_id, status, leased_until, claimed_at)
  select p_queue_id, (f.i ->> 0)::uuid, (f.i ->> 1)::uuid, me, 'open', clock_timestamp() + make_interval(secs => q.lease_s),
         clock_timestamp() + f.n * interval '1 microsecond' -- so that they stay in this order
  from jsonb_array_elements(fresh) with ordinality as f (i, n);
  return jsonb_build_object('items', mine || fresh);
end $$;

create function public.my_words_on(p_chat_id uuid) returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_object(
    'ratings', public.my_ratings(p_chat_id), 'marks', public.my_marks_of(p_chat_id),
    'aspects', (select coalesce(jsonb_agg(jsonb_build_array(a.step_id, a.aspect, a.score)), '[]') from public.aspect_ratings a
                where a.user_id = (select auth.uid()) and a.chat_id = p_chat_id),
    'rewrites', (select coalesce(jsonb_object_agg(r.step_id, r.text), '{}') from public.rewrites r
                 join public.reasoning_steps s on s.id = r.step_id
                 where r.user_id = (select auth.uid()) and s.chat_id = p_chat_id))
$$;
-- an item as one person sees it; null where there is none
create function public.item_view(p_chat_id uuid, p_other_id uuid) returns jsonb
language sql stable set search_path = '' as $$
  select public.get_chat(p_chat_id) || public.my_words_on(p_chat_id) || case when p_other_id is null then '{}' else (
    select jsonb_build_object('other', public.get_chat(b.id), 'preferences', (
      select coalesce(jsonb_agg(jsonb_build_array(p.step_order, p.aspect, p.verdict, p.strength, p.comment)), '[]')
      from public.preferences p where p.user_id = (select auth.uid()) and p.chat_id = a.id and p.other_id = b.id))
    from public.chats a join public.chats b on b.query = a.query where a.id = p_chat_id and b.id = p_other_id and a.id < b.id) end
$$;
create or replace function public.label_view(p_chat_id uuid) returns jsonb
language sql stable set search_path = '' as $$
  select public.item_view(p_chat_id, null) || jsonb_build_object('progress', public.my_progress())
$$;
create function public.pair_view(p_chat_id uuid, p_other_id uuid) returns jsonb
language sql stable set search_path = '' as $$
  select public.item_view(p_chat_id, p_other_id) || jsonb_build_object('progress', public.my_progress())
$$;
create function public.my_chosen(p_limit integer) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_array(chat_id, other_id, query, verdict, private.utc(last_at))
                            order by last_at desc, chat_id, other_id), '[]')
  from (select p.chat_id, p.other_id, c.query, max(p.verdict) filter (where p.step_order is null and p.aspect = '') as verdict,
               max(p.updated_at) as last_at
        from public.preferences p join public.chats c on c.id = p.chat_id where p.user_id = (select auth.uid())
        group by p.chat_id, p.other_id, c.query order by last_at desc, p.chat_id, p.other_id limit p_limit) chosen
$$;
create function public.claim(p_queue_id uuid, p_count integer) returns jsonb
language plpgsql volatile set search_path = '' as $$
declare claimed jsonb;
begin
  claimed := private.claim(p_queue_id, p_count);
  if claimed ? 'failed' then return claimed; end if;
  return jsonb_build_object('progress', public.my_progress(), 'views', (
    select coalesce(jsonb_agg(public.item_view((i ->> 0)::uuid, (i ->> 1)::uuid) order by n), '[]')
    from jsonb_array_elements(claimed -> 'items') with ordinality as t (i, n)));
end $$;

-- known answers --------------------------------------------------------------
create function private.is_good(p_score integer) returns boolean
language sql immutable set search_path = '' as $$ select case when p_score = 3 then null else p_score > 3 end $$;

-- definer: who is asked must not see the answer. Once for each person, item and queue that asks known answers.
create function private.grade(p_queue_id uuid, p_chat_id uuid, p_other_id uuid, p_skipped boolean) returns void
language plpgsql volatile security definer set search_path = '' as $$
declare me uuid := auth.uid(); known jsonb; lines jsonb := '[]'; given text; place text; wanted text;
begin
  select g.answer::jsonb into known from public.gold g where g.chat_id = p_chat_id and g.other_id is not distinct from p_other_id;
  if not found then return; end if;
  if p_other_id is not null then
    select p.verdict into given from public.preferences p where p.user_id = me and p.chat_id = p_chat_id and p.other_id = p_other_id
      and p.step_order is null and p.aspect = '';
    lines := jsonb_build_array(jsonb_build_array('verdict', known ->> 'verdict', coalesce(given, ''),
                                                 coalesce(given = known ->> 'verdict', false)));
  else
    for place, wanted in select key, value from jsonb_each_text(coalesce(known -> 'scores', '{}')) order by key loop
      select f.feedback_score::text into given from public.chat_feedback f where f.user_id = me and f.chat_id = p_chat_id
        and f.step_id is not distinct from nullif(place, '')::uuid;
      lines := lines || jsonb_build_array(jsonb_build_array(place, wanted, coalesce(given, ''), given is not null
        and private.is_good(given::integer) is not distinct from private.is_good(wanted::integer)));
    end loop;
    if known ? 'first_error' then
      given := coalesce(
        (select m.first_error::text from public.chat_marks m where m.user_id = me and m.chat_id = p_chat_id),
        (select s.id::text from public.reasoning_steps s join public.chat_feedback f on f.step_id = s.id and f.user_id = me
         where s.chat_id = p_chat_id and f.feedback_score <= 2 order by s.step_order limit 1), '');
      lines := lines || jsonb_build_array(jsonb_build_array('first_error', known ->> 'first_error', given,
        given = known ->> 'first_error' -- silence is no word on where it goes wrong
        and (given <> '' or exists (select 1 from public.chat_feedback f where f.user_id = me and f.chat_id = p_chat_id
                                    and f.step_id is not null))));
    end if;
  end if;
  insert into public.gold_results (queue_id, chat_id, other_id, user_id, asked, matched, detail)
  values (p_queue_id, p_chat_id, p_other_id, me, jsonb_array_length(lines),
          case when p_skipped then 0 else (select count(*) from jsonb_array_elements(lines) l where (l ->> 3)::boolean) end, lines)
  on conflict do nothing;
end $$;

drop function private.finish(uuid, uuid, text, text);
create function private.finish(p_queue_id uuid, p_chat_id uuid, p_other_id uuid, p_status text, p_reason text) returns boolean
language plpgsql volatile security definer set search_path = '' as $$
declare me uuid := auth.uid(); q public.queues; golden boolean;
begin
  perform private.require_role('annotator', 'analyst', 'engineer', 'admin');
  select * into q from public.queues where id = p_queue_id;
  if not found or not exists (select 1 from public.chats where id = p_chat_id) then return false; end if;
  golden := q.gold_rate > 0 or q.screening > 0;
  if golden and not exists (select 1 from public.assignments a where a.queue_id = p_queue_id and a.chat_id = p_chat_id
                            and a.other_id is not distinct from p_other_id and a.user_id = me) then
    return false; -- where answers are known, only what was handed out
  end if;
  if p_other_id is not null and not exists (select 1 from public.chats a join public.chats b on b.query = a.query
                                            where a.id = p_chat_id and b.id = p_other_id) then
    return false;
  end if;
  perform pg_advisory_xact_lock(hashtextextended(p_queue_id::text, 0));
  if p_status <> 'skipped' and not (golden and private.is_gold(p_chat_id, p_other_id))
     and not exists (select 1 from public.assignments a where a.queue_id = p_queue_id and a.chat_id = p_chat_id
                     and a.other_id is not distinct from p_other_id and a.user_id = me
                     and (a.status = 'submitted' or a.leased_until > clock_timestamp()))
     and (select count(*) from public.assignments a
          where a.queue_id = p_queue_id and a.chat_id = p_chat_id and a.other_id is not distinct from p_other_id and a.user_id <> me
            and (a.status = 'submitted' or (a.status = 'open' and a.leased_until > clock_timestamp()))) >= q.overlap then
    return false; -- the lease ran out, and others have it now
  end if;
  insert into public.assignments (queue_id, chat_id, other_id, user_id, status, finished_at, reason)
  values (p_queue_id, p_chat_id, p_other_id, me, p_status, now(), p_reason)
  on conflict (queue_id, chat_id, other_id, user_id) do update
  set status = excluded.status, leased_until = null, finished_at = excluded.finished_at, reason = excluded.reason;
  if golden and (p_status = 'submitted' -- in a screening, an item that is skipped is not right
                 or (select count(*) from public.gold_results r where r.queue_id = p_queue_id and r.user_id = me and r.counts)
                    < q.screening) then
    perform private.grade(p_queue_id, p_chat_id, p_other_id, p_status = 'skipped');
  end if;
  return true;
end $$;

create or replace function public.queue_progress(p_queue_id uuid) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
begin
  perform private.require_role('annotator', 'analyst', 'engineer', 'admin');
  return (select jsonb_build_array(
    (select count(*) from public.assignments a where a.queue_id = q.id and a.user_id = auth.uid() and a.status = 'submitted'),
    (select count(*) from public.assignments a where a.queue_id = q.id and a.user_id = auth.uid() and a.status = 'skipped'),
    (select count(*) from private.items(q.id)),
    (select count(*) from (select 1 from public.assignments a where a.queue_id = q.id and a.status = 'submitted'
                           group by a.chat_id, a.other_id having count(*) >= q.overlap) done))
  from public.queues q where q.id = p_queue_id);
end $$;

create function public.all_gold() returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_array(g.id, g.chat_id, g.other_id, c.query, c.source, g.answer, g.explanation,
    private.utc(g.created_at), r.given, r.share) order by g.created_at, g.id), '[]')
  from public.gold g join public.chats c on c.id = g.chat_id
  cross join lateral (select count(*) as given, avg(1.0 * matched / asked)::double precision as share from public.gold_results r
                      where r.chat_id = g.chat_id and r.other_id is not distinct from g.other_id) r
$$;
create function public.save_gold(p_id uuid, p_chat_id uuid, p_other_id uuid, p_answer text, p_explanation text) returns uuid
language plpgsql volatile security definer set search_path = '' as $$
declare saved uuid;
begin
  perform private.require_role('engineer', 'admin');
  if exists (select 1 from (select key from jsonb_each(coalesce(p_answer::jsonb -> 'scores', '{}'))
                            union all select p_answer::jsonb ->> 'first_error') named (step)
             where step <> '' and not exists (select 1 from public.reasoning_steps s
                                              where s.chat_id = p_chat_id and s.id = step::uuid)) then
    return null;
  end if;
  insert into public.gold as g (id, chat_id, other_id, answer, explanation, created_by)
  select p_id, c.id, p_other_id, p_answer, p_explanation, auth.uid() from public.chats c
  where c.id = p_chat_id and (p_other_id is null or exists (select 1 from public.chats o where o.id = p_other_id and o.query = c.query))
  on conflict (chat_id, other_id) do update
  set answer = excluded.answer, explanation = excluded.explanation, created_by = excluded.created_by
  returning g.id into saved;
  return saved;
end $$;
create function public.remove_gold(p_id uuid) returns boolean
language plpgsql volatile security definer set search_path = '' as $$
begin
  perform private.require_role('engineer', 'admin');
  delete from public.gold where id = p_id;
  return found;
end $$;
create function public.screenings(p_queue_id uuid, p_screening integer) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
begin
  perform private.require_role('engineer', 'admin');
  return (select coalesce(jsonb_agg(jsonb_build_array(user_id, display_name, answered, share) order by display_name, user_id), '[]')
    from (select r.user_id, p.display_name, count(*) as answered, avg(r.share)::double precision as share
          from (select g.user_id, 1.0 * g.matched / g.asked as share, row_number() over (partition by g.user_id order by g.n) as k
                from public.gold_results g where g.queue_id = p_queue_id and g.counts) r
          join public.profiles p on p.user_id = r.user_id
          where r.k <= p_screening group by r.user_id, p.display_name) each);
end $$;
create function public.forget_screening(p_queue_id uuid, p_user_id uuid) returns void
language plpgsql volatile security definer set search_path = '' as $$
begin
  perform private.require_role('engineer', 'admin');
  delete from public.assignments a where a.queue_id = p_queue_id and a.user_id = p_user_id and private.is_gold(a.chat_id, a.other_id);
  update public.gold_results r set counts = false where r.queue_id = p_queue_id and r.user_id = p_user_id;
end $$;

-- after an item was submitted -------------------------------------------------
create function public.set_hints(p_queue_id uuid, p_checkpoint_id text, p_rewards text) returns void
language plpgsql volatile security definer set search_path = '' as $$
begin
  perform private.require_role('engineer', 'admin');
  delete from public.hints where queue_id = p_queue_id;
  insert into public.hints (queue_id, chat_id, checkpoint_id, rewards)
  select p_queue_id, key::uuid, p_checkpoint_id, value from jsonb_each(p_rewards::jsonb);
end $$;
-- definer: neither known answers nor rewards are anybody's to read before they have submitted the item
create function public.after_item(p_queue_id uuid, p_chat_id uuid, p_other_id uuid) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare me uuid := auth.uid(); told jsonb; checkpoint text; rewards jsonb; other_rewards jsonb;
begin
  if not exists (select 1 from public.assignments a where a.queue_id = p_queue_id and a.chat_id = p_chat_id
                 and a.other_id is not distinct from p_other_id and a.user_id = me and a.status = 'submitted') then
    return null;
  end if;
  select jsonb_build_object('places', r.detail, 'explanation', coalesce((
           select g.explanation from public.gold g where g.chat_id = p_chat_id and g.other_id is not distinct from p_other_id), ''))
    into told from public.gold_results r
    where r.user_id = me and r.queue_id = p_queue_id and r.chat_id = p_chat_id and r.other_id is not distinct from p_other_id
      and r.counts;
  select h.checkpoint_id, h.rewards into checkpoint, rewards from public.hints h
    join public.queues q on q.id = h.queue_id and q.hint_checkpoint = h.checkpoint_id
    where h.queue_id = p_queue_id and h.chat_id = p_chat_id;
  if p_other_id is not null and rewards is not null then
    select h.rewards into other_rewards from public.hints h
      where h.queue_id = p_queue_id and h.chat_id = p_other_id and h.checkpoint_id = checkpoint;
    if other_rewards is null then rewards := null; end if;
  end if;
  if rewards is not null and p_other_id is not null and not exists (
    select 1 from public.preferences p where p.user_id = me and p.chat_id = p_chat_id and p.other_id = p_other_id
      and p.step_order is null and p.aspect = '') then
    rewards := null; -- of what they have judged, and of nothing else
  end if;
  if rewards is not null then
    if p_other_id is null then
      insert into public.hints_shown (queue_id, chat_id, step_id, user_id, checkpoint_id, reward, said)
      select p_queue_id, p_chat_id, f.step_id, me, checkpoint, (rewards ->> coalesce(f.step_id::text, ''))::double precision,
             f.feedback_score::text
      from public.chat_feedback f
      where f.user_id = me and f.chat_id = p_chat_id and rewards ? coalesce(f.step_id::text, '')
      on conflict do nothing;
      select jsonb_object_agg(key, value) into rewards from jsonb_each(rewards)
      where exists (select 1 from public.chat_feedback f where f.user_id = me and f.chat_id = p_chat_id
                    and coalesce(f.step_id::text, '') = key);
    else
      insert into public.hints_shown (queue_id, chat_id, other_id, user_id, checkpoint_id, reward, said)
      select p_queue_id, p_chat_id, p_other_id, me, checkpoint,
             (rewards ->> '')::double precision - (other_rewards ->> '')::double precision, p.verdict
      from public.preferences p where p.user_id = me and p.chat_id = p_chat_id and p.other_id = p_other_id
        and p.step_order is null and p.aspect = ''
      on conflict do nothing;
      rewards := jsonb_build_object(p_chat_id, rewards -> '', p_other_id, other_rewards -> '');
    end if;
    if rewards is not null then
      told := coalesce(told, '{}') || jsonb_build_object('checkpoint', checkpoint, 'rewards', rewards);
    end if;
  end if;
  return told;
end $$;

-- disputes -------------------------------------------------------------------
create function public.disputes(p_limit integer) returns jsonb
language plpgsql stable security definer set search_path = '' set statement_timeout = '1min' as $$
begin
  perform private.require_role('analyst', 'engineer', 'admin');
  return (
  with scored as (
    select chat_id, max(spread) as spread, max(n) as raters from (
      select f.chat_id, max(f.feedback_score) - min(f.feedback_score) as spread, count(*) as n
      from public.chat_feedback f group by f.chat_id, f.step_id) by_place
    group by chat_id
  ),
  judged as ( -- a person's first error: what they marked, else the first step they found bad, else none (0)
    select f.chat_id, f.user_id, coalesce(
      (select s.step_order from public.chat_marks m join public.reasoning_steps s on s.id = m.first_error
       where m.user_id = f.user_id and m.chat_id = f.chat_id),
      min(s.step_order) filter (where f.feedback_score <= 2), 0) as at
    from (select chat_id, user_id, step_id, feedback_score from public.chat_feedback where step_id is not null
          union all
          select chat_id, user_id, first_error, null from public.chat_marks where first_error is not null) f
    join public.reasoning_steps s on s.id = f.step_id
    group by f.chat_id, f.user_id
  ),
  stops as (select chat_id, count(distinct at) as stops, count(*) as raters from judged group by chat_id),
  chosen as (
    select chat_id, other_id, count(distinct verdict) as verdicts, count(*) as raters from public.preferences
    where step_order is null and aspect = '' group by chat_id, other_id having count(distinct verdict) > 1
  ),
  found as (
    select chat_id, null::uuid as other_id, max(raters) as raters, max(spread) as spread, max(stops) as stops, 0 as verdicts
    from (select chat_id, raters, spread, 0 as stops from scored union all select chat_id, raters, 0, stops from stops) both_kinds
    group by chat_id having max(spread) >= 2 or max(stops) > 1
    union all
    select chat_id, other_id, raters, 0, 0, verdicts from chosen
  ),
  listed as (
    select f.*, c.query, (select count(*) from public.decisions d
                          where d.chat_id = f.chat_id and d.other_id is not distinct from f.other_id) as decided
    from found f join public.chats c on c.id = f.chat_id
  )
  select coalesce(jsonb_agg(jsonb_build_array(l.chat_id, l.other_id, l.query, l.raters, l.spread, l.stops, l.verdicts, l.decided)
                            order by l.place), '[]')
  from (select l.*, row_number() over (order by decided > 0, verdicts desc, stops > 1 desc, spread desc, raters desc, chat_id,
                                       other_id) as place
        from listed l order by place limit p_limit) l);
end $$;
create function public.judgements(p_chat_id uuid, p_other_id uuid) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
begin
  perform private.require_role('analyst', 'engineer', 'admin');
  if p_other_id is not null then
    return (select coalesce(jsonb_agg(jsonb_build_array(p.user_id, p.step_order, 'preference' || coalesce(':' || nullif(p.aspect, ''), ''),
              p.verdict || coalesce(' ' || p.strength, ''), p.comment, private.utc(p.updated_at))
              order by p.user_id, p.step_order nulls first, p.aspect), '[]')
            from public.preferences p where p.chat_id = p_chat_id and p.other_id = p_other_id);
  end if;
  return (select coalesce(jsonb_agg(jsonb_build_array(j.user_id, j.step_id, j.kind, j.value, j.comment, private.utc(j.at))
                                    order by j.user_id, j.kind, j.at), '[]')
    from (select f.user_id, f.step_id, 'score' as kind, f.feedback_score::text as value, f.comment, f.updated_at as at
          from public.chat_feedback f where f.chat_id = p_chat_id
          union all
          select a.user_id, a.step_id, 'aspect:' || a.aspect, a.score::text, null, a.updated_at
          from public.aspect_ratings a where a.chat_id = p_chat_id
          union all
          select m.user_id, m.first_error, 'first_error', '', null, m.updated_at
          from public.chat_marks m where m.chat_id = p_chat_id and m.first_error is not null) j);
end $$;
create function private.decision_line(d public.decisions) returns jsonb
language sql immutable set search_path = '' as $$
  select jsonb_build_array(d.id, d.chat_id, d.other_id, d.step_id, d.kind, d.value, d.reason, private.utc(d.decided_at))
$$;
create function public.decisions_of(p_chat_id uuid, p_other_id uuid) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(jsonb_agg(private.decision_line(d) order by d.decided_at, d.id), '[]') from public.decisions d
  where d.chat_id = p_chat_id and d.other_id is not distinct from p_other_id
$$;
create function public.decide(p_id uuid, p_chat_id uuid, p_other_id uuid, p_step_id uuid, p_kind text, p_value text, p_reason text)
returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare saved jsonb;
begin
  perform private.require_role('analyst', 'engineer', 'admin');
  if p_kind = 'first_error' and p_value <> '' and not exists (
    select 1 from public.reasoning_steps s where s.chat_id = p_chat_id and s.id = p_value::uuid) then return null; end if;
  if p_step_id is not null and not exists (
    select 1 from public.reasoning_steps s where s.chat_id = p_chat_id and s.id = p_step_id) then return null; end if;
  insert into public.decisions as d (id, chat_id, other_id, step_id, kind, value, reason, decided_by)
  select p_id, c.id, p_other_id, p_step_id, p_kind, p_value, p_reason, auth.uid() from public.chats c
  where c.id = p_chat_id and (p_other_id is null or exists (select 1 from public.chats o where o.id = p_other_id and o.query = c.query))
  on conflict (chat_id, other_id, step_id, kind) do update
  set value = excluded.value, reason = excluded.reason, decided_by = excluded.decided_by, decided_at = now()
  returning private.decision_line(d) into saved;
  return saved;
end $$;
create function public.undecide(p_chat_id uuid, p_other_id uuid, p_step_id uuid, p_kind text) returns boolean
language plpgsql volatile security definer set search_path = '' as $$
begin
  perform private.require_role('analyst', 'engineer', 'admin');
  delete from public.decisions d where d.chat_id = p_chat_id and d.other_id is not distinct from p_other_id
    and d.step_id is not distinct from p_step_id and d.kind = p_kind;
  return found;
end $$;

-- Where a dispute was decided, the decision stands for the mean.
create or replace function public.mean_scores(p_chat_id uuid) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_array(by_step.step_id, coalesce((
           select d.value::double precision from public.decisions d
           where d.chat_id = p_chat_id and d.step_id is not distinct from by_step.step_id and d.kind = 'score'), mean), n)), '[]')
  from (select f.step_id, avg(f.feedback_score)::double precision as mean, count(*) as n
        from public.chat_feedback f where f.chat_id = p_chat_id group by f.step_id) by_step
$$;

-- rewrites -------------------------------------------------------------------
-- The answer before a step: the response itself where its steps stand in it word for word, else the steps.
create function private.prefix_before(p_chat_id uuid, p_step_order integer) returns text
language plpgsql stable set search_path = '' as $$
declare answer text; one text; at integer := 1; found_at integer;
begin
  select c.response into answer from public.chats c where c.id = p_chat_id;
  for one in select s.step_content from public.reasoning_steps s where s.chat_id = p_chat_id and s.step_order < p_step_order
             order by s.step_order loop
    found_at := position(one in substr(answer, at));
    if found_at = 0 then
      return (select string_agg(s.step_content, E'\n\n' order by s.step_order) from public.reasoning_steps s
              where s.chat_id = p_chat_id and s.step_order < p_step_order);
    end if;
    at := at + found_at - 1 + length(one);
  end loop;
  return left(answer, at - 1);
end $$;

-- definer: nobody writes chats directly. The answer up to the rewritten step becomes a chat of its own.
create function private.rewrite(p_chat_id uuid, p_step_id uuid, p_text text) returns boolean
language plpgsql volatile security definer set search_path = '' as $$
declare me uuid := auth.uid(); at integer; old public.rewrites; fresh uuid := gen_random_uuid(); last uuid; prefix text;
begin
  perform private.require_role('annotator', 'analyst', 'engineer', 'admin');
  select s.step_order into at from public.reasoning_steps s where s.id = p_step_id and s.chat_id = p_chat_id;
  if not found then return false; end if;
  select * into old from public.rewrites r where r.user_id = me and r.step_id = p_step_id;
  if found then
    if old.text = p_text then return true; end if;
    delete from public.rewrites r where r.user_id = me and r.step_id = p_step_id;
    if not exists (select 1 from public.chat_feedback f where f.chat_id = old.rewrite_id and f.user_id <> me)
       and not exists (select 1 from public.preferences p where old.rewrite_id in (p.chat_id, p.other_id) and p.user_id <> me)
       and not exists (select 1 from public.aspect_ratings a where a.chat_id = old.rewrite_id and a.user_id <> me)
       and not exists (select 1 from public.chat_marks m where m.chat_id = old.rewrite_id and m.user_id <> me)
       and not exists (select 1 from public.rewrites r join public.reasoning_steps s on s.id = r.step_id
                       where s.chat_id = old.rewrite_id and r.user_id <> me)
       and not exists (select 1 from public.gold g where old.rewrite_id in (g.chat_id, g.other_id))
       and not exists (select 1 from public.decisions d where old.rewrite_id in (d.chat_id, d.other_id)) then
      delete from public.chats c where c.id = old.rewrite_id; -- with what others said of it, the old text would stay
    end if;
  end if;
  if p_text = '' then return true; end if;
  prefix := private.prefix_before(p_chat_id, at);
  insert into public.chats (id, owner_id, query, response, source)
  select fresh, me, c.query, case when prefix = '' then p_text else prefix || E'\n\n' || p_text end, 'rewrite'
  from public.chats c where c.id = p_chat_id;
  insert into public.reasoning_steps (id, chat_id, step_content, step_order)
  select gen_random_uuid(), fresh, s.step_content, s.step_order from public.reasoning_steps s
  where s.chat_id = p_chat_id and s.step_order < at;
  last := gen_random_uuid();
  insert into public.reasoning_steps (id, chat_id, step_content, step_order) values (last, fresh, p_text, at);
  insert into public.rewrites (user_id, step_id, rewrite_id, text) values (me, p_step_id, fresh, p_text);
  insert into public.preferences (id, chat_id, other_id, step_order, user_id, verdict)
  values (gen_random_uuid(), least(p_chat_id, fresh), greatest(p_chat_id, fresh), at, me,
          case when fresh < p_chat_id then 'chat' else 'other' end);
  perform public.rate(gen_random_uuid(), fresh, last, 5, 'thumbs');
  if not exists (select 1 from public.chat_feedback f where f.user_id = me and f.step_id = p_step_id and f.feedback_score <= 2) then
    perform public.rate(gen_random_uuid(), p_chat_id, p_step_id, 1, 'thumbs'); -- what one writes anew is not good
  end if;
  return true;
end $$;

-- what the label page sends --------------------------------------------------
-- As before, with aspects, preferences and rewrites; an item of two chats names the other in its value.
create or replace function public.apply_ops(p_ops text) returns jsonb
language plpgsql volatile set search_path = '' as $$
declare
  op jsonb; outcomes jsonb := '[]'; outcome text; chat uuid; step uuid; value jsonb; done boolean; me uuid := auth.uid(); other uuid;
begin
  for op in select o from jsonb_array_elements(p_ops::jsonb) as o loop
    select a.outcome into outcome from public.applied_ops a where a.id = (op ->> 0)::uuid and a.user_id = me;
    if not found then
      outcome := '';
      done := true;
      begin
        chat := (op ->> 2)::uuid; step := (op ->> 3)::uuid; value := op -> 4; other := (value ->> 'other')::uuid;
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
          when 'aspect' then
            if value ->> 'score' is null then
              delete from public.aspect_ratings a where a.user_id = me and a.chat_id = chat and a.step_id is not distinct from step
                and a.aspect = value ->> 'aspect';
            else
              insert into public.aspect_ratings as a (id, chat_id, step_id, user_id, queue_id, rubric_version, aspect, score)
              select gen_random_uuid(), c.id, step, me, r.queue_id, r.version, value ->> 'aspect', (value ->> 'score')::integer
              from public.chats c, public.rubrics r
              where c.id = chat and r.queue_id = (value ->> 'queue')::uuid and r.version = (value ->> 'version')::integer
                and exists (select 1 from jsonb_array_elements(r.aspects::jsonb) as t (one) where t.one ->> 'key' = value ->> 'aspect')
                and (step is null or exists (select 1 from public.reasoning_steps s where s.id = step and s.chat_id = chat))
              on conflict (user_id, chat_id, step_id, aspect) do update
              set score = excluded.score, queue_id = excluded.queue_id, rubric_version = excluded.rubric_version, updated_at = now();
              done := found;
            end if;
          when 'prefer' then
            if value ->> 'verdict' is null then
              delete from public.preferences p where p.user_id = me and p.chat_id = chat and p.other_id = other
                and p.step_order is not distinct from (value ->> 'step')::integer and p.aspect = coalesce(value ->> 'aspect', '');
            else
              insert into public.preferences as p (id, chat_id, other_id, step_order, aspect, user_id, verdict, strength, shown_left, comment)
              select gen_random_uuid(), a.id, b.id, (value ->> 'step')::integer, coalesce(value ->> 'aspect', ''), me,
                     value ->> 'verdict', (value ->> 'strength')::smallint, (value ->> 'left')::uuid,
                     nullif(btrim(value ->> 'comment'), '')
              from public.chats a join public.chats b on b.query = a.query where a.id = chat and b.id = other and a.id < b.id
              on conflict (user_id, chat_id, other_id, step_order, aspect) do update
              set verdict = excluded.verdict, strength = excluded.strength, shown_left = excluded.shown_left,
                  comment = excluded.comment, updated_at = now();
              done := found;
            end if;
          when 'rewrite' then
            done := private.rewrite(chat, step, btrim(value ->> 'text', E' \n\t\r'));
          when 'dwell', 'edit' then
            insert into public.label_events (id, user_id, chat_id, step_id, kind, value)
            select (op ->> 0)::uuid, me, c.id, step, op ->> 1, (value ->> 'ms')::double precision
            from public.chats c where c.id = chat;
          when 'submit', 'skip' then
            if not private.finish((value ->> 'queue')::uuid, chat, other,
                                  case op ->> 1 when 'skip' then 'skipped' else 'submitted' end,
                                  nullif(left(btrim(value ->> 'reason'), 500), '')) then
              outcome := 'This chat had been handed to somebody else after your time for it ran out, or it is gone. '
                         || 'Your ratings are kept.';
            elsif op ->> 1 = 'skip' and coalesce((value ->> 'noted')::boolean, true) then
              insert into public.label_events (id, user_id, chat_id, step_id, kind) values ((op ->> 0)::uuid, me, chat, step, 'skip');
            end if;
          else outcome := 'The page sent ''' || (op ->> 1) || ''', which is unknown here. Reload the page.';
        end case;
        if not done then
          outcome := 'This chat, step or question is no longer there. Reload the page.';
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
create or replace function public.my_everything() returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_object(
    'feedback', (select coalesce(jsonb_agg(private.feedback_line(f) order by f.created_at, f.id), '[]')
                 from public.chat_feedback f where f.user_id = (select auth.uid())),
    'marks', (select coalesce(jsonb_agg(jsonb_build_array(m.chat_id, m.first_error, to_jsonb(m.flags)::text, private.utc(m.updated_at))
                                        order by m.chat_id), '[]')
              from public.chat_marks m where m.user_id = (select auth.uid())),
    'events', (select coalesce(jsonb_agg(jsonb_build_array(e.id, e.chat_id, e.step_id, e.kind, e.value, private.utc(e.at))
                                         order by e.at, e.id), '[]')
               from public.label_events e where e.user_id = (select auth.uid())),
    'preferences', (select coalesce(jsonb_agg(jsonb_build_array(p.id, p.chat_id, p.other_id, p.step_order, p.aspect, p.verdict,
                      p.strength, p.comment, private.utc(p.created_at), private.utc(p.updated_at)) order by p.created_at, p.id), '[]')
                    from public.preferences p where p.user_id = (select auth.uid())),
    'aspect_ratings', (select coalesce(jsonb_agg(jsonb_build_array(a.id, a.chat_id, a.step_id, a.queue_id, a.rubric_version, a.aspect,
                         a.score, private.utc(a.created_at), private.utc(a.updated_at)) order by a.created_at, a.id), '[]')
                       from public.aspect_ratings a where a.user_id = (select auth.uid())),
    'rewrites', (select coalesce(jsonb_agg(jsonb_build_array(r.step_id, r.rewrite_id, r.text, private.utc(r.updated_at))
                                           order by r.updated_at, r.step_id), '[]')
                 from public.rewrites r where r.user_id = (select auth.uid())),
    'gold_results', (select coalesce(jsonb_agg(jsonb_build_array(g.queue_id, g.chat_id, g.other_id, g.asked, g.matched, private.utc(g.at))
                                               order by g.at, g.chat_id), '[]')
                     from public.gold_results g where g.user_id = (select auth.uid())))
$$;
create or replace function public.erase_mine() returns bigint
language plpgsql volatile security definer set search_path = '' as $$
declare erased bigint := 0; n bigint; me uuid := auth.uid();
begin
  if me is null then raise exception 'nobody is signed in' using errcode = '42501'; end if;
  delete from public.chats c where c.source = 'rewrite' and c.owner_id = me; -- with what was said of it
  delete from public.chat_feedback where user_id = me;
  get diagnostics n = row_count; erased := erased + n;
  delete from public.preferences where user_id = me;
  get diagnostics n = row_count; erased := erased + n;
  delete from public.aspect_ratings where user_id = me;
  get diagnostics n = row_count; erased := erased + n;
  delete from public.feedback_history where user_id = me;
  delete from public.chat_marks where user_id = me;
  delete from public.label_events where user_id = me;
  delete from public.assignments where user_id = me;
  -- but that a screening was failed: otherwise one would be asked the same again, knowing the answers
  delete from public.gold_results g where g.user_id = me and not exists (
    select 1 from public.queues q cross join lateral (
      select count(*) as n, avg(1.0 * r.matched / r.asked) as share from public.gold_results r
      where r.queue_id = q.id and r.user_id = me and r.counts) s
    where q.id = g.queue_id and q.screening > 0 and s.n >= q.screening and s.share < q.screening_pass);
  update public.gold_results set detail = '[]' where user_id = me;
  delete from public.hints_shown where user_id = me;
  return erased;
end $$;

create function private.preference_line(p public.preferences) returns jsonb
language sql immutable set search_path = '' as $$
  select jsonb_build_array(p.id, p.chat_id, p.other_id, p.step_order, p.aspect, p.user_id, p.verdict, p.strength, p.shown_left, p.comment,
                           private.utc(p.created_at), private.utc(p.updated_at))
$$;
create function private.aspect_line(a public.aspect_ratings) returns jsonb
language sql immutable set search_path = '' as $$
  select jsonb_build_array(a.id, a.chat_id, a.step_id, a.user_id, a.queue_id, a.rubric_version, a.aspect, a.score,
                           private.utc(a.created_at), private.utc(a.updated_at))
$$;

-- export: the tables beside chats, steps and feedback, as of the same moment --
create unlogged table private.export_lines (
  export_id  uuid not null,
  kind       text not null,
  n          bigint not null,
  line       jsonb not null,
  primary key (export_id, kind, n)
);
alter table private.export_lines enable row level security;

create or replace function public.end_export(p_export uuid) returns void
language plpgsql volatile security definer set search_path = '' as $$
begin
  perform private.require_role('analyst', 'engineer', 'admin');
  delete from private.exports e where e.id = p_export and e.owner_id is not distinct from auth.uid();
  if found then
    delete from private.export_chats where export_id = p_export;
    delete from private.export_feedback where export_id = p_export;
    delete from private.export_lines where export_id = p_export;
  end if;
end $$;

create or replace function public.begin_export(p_export uuid) returns jsonb
language plpgsql volatile security definer set search_path = '' set statement_timeout = '5min' as $$
declare old uuid[]; answer jsonb;
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
  with chats as ( -- one statement, one moment
    insert into private.export_chats (export_id, chat_id) select p_export, c.id from public.chats c returning 1
  ), feedback as (
    insert into private.export_feedback (export_id, n, updated_at, line)
    select p_export, row_number() over (order by f.chat_id, f.step_id nulls first, f.user_id), f.updated_at,
           private.feedback_line(f)
    from public.chat_feedback f returning 1
  ), lines as (
    insert into private.export_lines (export_id, kind, n, line)
    select p_export, 'chat_marks', row_number() over (order by m.chat_id, m.user_id),
           jsonb_build_array(m.chat_id, m.user_id, m.first_error, to_jsonb(m.flags)::text, private.utc(m.updated_at))
    from public.chat_marks m
    union all
    select p_export, 'label_events', row_number() over (order by e.id),
           jsonb_build_array(e.id, e.chat_id, e.step_id, e.user_id, e.kind, e.value, private.utc(e.at))
    from public.label_events e
    union all
    select p_export, 'preferences', row_number() over (order by p.id),
           private.preference_line(p)
    from public.preferences p
    union all
    select p_export, 'aspect_ratings', row_number() over (order by a.id),
           private.aspect_line(a)
    from public.aspect_ratings a
    union all
    select p_export, 'assignments', row_number() over (order by a.queue_id, a.chat_id, a.other_id nulls first, a.user_id),
           jsonb_build_array(a.queue_id, a.chat_id, a.other_id, a.user_id, a.status, private.utc(a.claimed_at), private.utc(a.finished_at))
    from public.assignments a where a.status <> 'open'
    union all
    select p_export, 'queues', row_number() over (order by q.id), jsonb_build_array(q.id, q.name, q.task) from public.queues q
    union all
    select p_export, 'gold_results', row_number() over (order by g.queue_id, g.chat_id, g.other_id nulls first, g.user_id),
           jsonb_build_array(g.queue_id, g.chat_id, g.other_id, g.user_id, g.asked, g.matched, private.utc(g.at))
    from public.gold_results g where g.counts
    union all
    select p_export, 'decisions', row_number() over (order by d.id),
           jsonb_build_array(d.id, d.chat_id, d.other_id, d.step_id, d.kind, d.value, d.reason, d.decided_by, private.utc(d.decided_at))
    from public.decisions d
    union all
    select p_export, 'hints_shown', row_number() over (order by h.queue_id, h.chat_id, h.other_id nulls first, h.step_id nulls first, h.user_id),
           jsonb_build_array(h.queue_id, h.chat_id, h.other_id, h.step_id, h.user_id, h.checkpoint_id, h.reward, h.said, private.utc(h.at))
    from public.hints_shown h
    returning kind
  )
  select jsonb_build_object(
    'chats', (select count(*) from chats), 'chat_feedback', (select count(*) from feedback),
    'reasoning_steps', (select count(*) from public.reasoning_steps),
    'demo_raters', (select coalesce(jsonb_agg(p.user_id), '[]') from public.profiles p where p.origin = 'demo'))
    || (select coalesce(jsonb_object_agg(kind, n), '{}') from (select kind, count(*) as n from lines group by kind) k)
  into answer;
  return answer;
end $$;

create function public.export_lines(p_export uuid, p_kind text, p_after bigint, p_limit integer) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
begin
  perform private.my_export(p_export);
  return (select coalesce(jsonb_agg(page.line order by page.n), '[]')
          from (select l.n, l.line from private.export_lines l
                where l.export_id = p_export and l.kind = p_kind and l.n > p_after order by l.n limit p_limit) page);
end $$;

-- import: preferences too ----------------------------------------------------
alter table private.import_parts drop constraint import_parts_kind_check,
  add constraint import_parts_kind_check check (kind in ('profiles', 'chats', 'reasoning_steps', 'chat_feedback', 'preferences', 'aspect_ratings'));
create or replace function public.finish_import(p_import uuid, p_parts integer) returns jsonb
language plpgsql volatile security definer set search_path = '' set statement_timeout = '10min' as $$
declare
  here integer; answer jsonb; offered_chats bigint; offered_feedback bigint; added_chats bigint; added_steps bigint; added_feedback bigint;
  added_here bigint;
begin
  perform private.my_import(p_import);
  select i.result into answer from private.imports i where i.id = p_import for update;
  if answer is not null then return answer; end if;
  select count(*) into here from private.import_parts where import_id = p_import;
  if here <> p_parts then
    raise exception '% of % parts arrived', here, p_parts using errcode = '22023';
  end if;
  select coalesce(sum(jsonb_array_length(rows)) filter (where kind = 'chats'), 0),
         coalesce(sum(jsonb_array_length(rows)) filter (where kind in ('chat_feedback', 'preferences', 'aspect_ratings')), 0)
  into offered_chats, offered_feedback from private.import_parts where import_id = p_import;

  insert into public.profiles (user_id, display_name, origin)
  select (r ->> 0)::uuid, btrim(r ->> 1), r ->> 2
  from private.import_parts p cross join jsonb_array_elements(p.rows) as r
  where p.import_id = p_import and p.kind = 'profiles'
  order by 1 -- always the same order, so that two imports at once wait for each other instead of dying of a deadlock
  on conflict (user_id) do nothing;

  -- only the operator, who carries a store over, says whose a chat is
  insert into public.chats (id, query, response, source, model, external_id, created_at, owner_id)
  select (r ->> 0)::uuid, r ->> 1, r ->> 2, r ->> 3, r ->> 4, r ->> 5, (r ->> 6)::private.utc_text::timestamptz,
         case when private.is_operator() then (r ->> 7)::uuid end
  from private.import_parts p cross join jsonb_array_elements(p.rows) as r
  where p.import_id = p_import and p.kind = 'chats'
  order by 1 on conflict (id) do nothing;
  get diagnostics added_chats = row_count;

  insert into public.reasoning_steps (id, chat_id, step_content, step_order, created_at)
  select (r ->> 0)::uuid, (r ->> 1)::uuid, r ->> 2, (r ->> 3)::integer, (r ->> 4)::private.utc_text::timestamptz
  from private.import_parts p cross join jsonb_array_elements(p.rows) as r
  where p.import_id = p_import and p.kind = 'reasoning_steps'
  order by 1 on conflict (id) do nothing;
  get diagnostics added_steps = row_count;

  -- a file may not speak for somebody who can sign in; only the operator, who carries a store over, may
  if not private.is_operator() and exists (
    select 1 from private.import_parts p cross join jsonb_array_elements(p.rows) as r
    join public.profiles who on who.origin = 'account'
      and who.user_id = (r ->> case p.kind when 'preferences' then 5 else 3 end)::uuid
    where p.import_id = p_import and p.kind in ('chat_feedback', 'preferences', 'aspect_ratings')) then
    raise exception 'a file may not rate in the name of somebody who can sign in' using errcode = '42501';
  end if;
  insert into public.chat_feedback (id, chat_id, step_id, user_id, feedback_type, feedback_score, scale, comment,
                                    created_at, updated_at)
  select (r ->> 0)::uuid, (r ->> 1)::uuid, (r ->> 2)::uuid, (r ->> 3)::uuid, r ->> 4, (r ->> 5)::smallint, r ->> 6, r ->> 7,
         (r ->> 8)::private.utc_text::timestamptz, (r ->> 9)::private.utc_text::timestamptz
  from private.import_parts p cross join jsonb_array_elements(p.rows) as r
  where p.import_id = p_import and p.kind = 'chat_feedback'
  order by 1 on conflict do nothing;
  get diagnostics added_feedback = row_count;

  insert into public.preferences (id, chat_id, other_id, step_order, aspect, user_id, verdict, strength, shown_left, comment,
                                  created_at, updated_at)
  select (r ->> 0)::uuid, (r ->> 1)::uuid, (r ->> 2)::uuid, (r ->> 3)::integer, r ->> 4, (r ->> 5)::uuid, r ->> 6,
         (r ->> 7)::smallint, (r ->> 8)::uuid, r ->> 9, (r ->> 10)::private.utc_text::timestamptz,
         (r ->> 11)::private.utc_text::timestamptz
  from private.import_parts p cross join jsonb_array_elements(p.rows) as r
  where p.import_id = p_import and p.kind = 'preferences'
  order by 1 on conflict do nothing;
  get diagnostics added_here = row_count;
  added_feedback := added_feedback + added_here;

  insert into public.aspect_ratings (id, chat_id, step_id, user_id, queue_id, rubric_version, aspect, score, created_at, updated_at)
  select (r ->> 0)::uuid, (r ->> 1)::uuid, (r ->> 2)::uuid, (r ->> 3)::uuid, (r ->> 4)::uuid, (r ->> 5)::integer, r ->> 6,
         (r ->> 7)::smallint, (r ->> 8)::private.utc_text::timestamptz, (r ->> 9)::private.utc_text::timestamptz
  from private.import_parts p cross join jsonb_array_elements(p.rows) as r
  where p.import_id = p_import and p.kind = 'aspect_ratings'
  order by 1 on conflict do nothing;
  get diagnostics added_here = row_count;
  added_feedback := added_feedback + added_here;

  answer := jsonb_build_object('chats', added_chats, 'steps', added_steps, 'ratings', added_feedback,
    'known_chats', offered_chats - added_chats, 'known_ratings', offered_feedback - added_feedback);
  delete from private.import_parts where import_id = p_import;
  update private.imports set result = answer where id = p_import;
  return answer;
end $$;

-- carrying a store over: preferences and aspects too ---------------------------
create or replace function public.row_hashes(p_table text, p_ids text) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare answer jsonb;
begin
  perform private.require_role('admin');
  if p_table = 'chats' then
    select jsonb_object_agg(c.id, private.row_hash(private.chat_line(c) - 7)) into answer
    from public.chats c where c.id in (select jsonb_array_elements_text(p_ids::jsonb)::uuid);
  elsif p_table = 'reasoning_steps' then
    select jsonb_object_agg(s.id, private.row_hash(jsonb_build_array(s.id, s.chat_id, s.step_content, s.step_order))) into answer
    from public.reasoning_steps s where s.id in (select jsonb_array_elements_text(p_ids::jsonb)::uuid);
  elsif p_table = 'chat_feedback' then
    select jsonb_object_agg(f.id, private.row_hash(private.feedback_line(f))) into answer
    from public.chat_feedback f where f.id in (select jsonb_array_elements_text(p_ids::jsonb)::uuid);
  elsif p_table = 'preferences' then
    select jsonb_object_agg(p.id, private.row_hash(private.preference_line(p))) into answer
    from public.preferences p where p.id in (select jsonb_array_elements_text(p_ids::jsonb)::uuid);
  elsif p_table = 'aspect_ratings' then
    select jsonb_object_agg(a.id, private.row_hash(private.aspect_line(a))) into answer
    from public.aspect_ratings a where a.id in (select jsonb_array_elements_text(p_ids::jsonb)::uuid);
  else
    raise exception 'no table %', p_table using errcode = '22023';
  end if;
  return coalesce(answer, '{}');
end $$;

create or replace function public.adopt_ratings(p_from uuid, p_to uuid) returns bigint
language plpgsql volatile security definer set search_path = '' as $$
declare moved bigint; here bigint;
begin
  perform private.require_role('admin');
  if not exists (select 1 from public.profiles where user_id = p_from) then return 0; end if; -- adopted already
  if not exists (select 1 from public.profiles where user_id = p_from and origin = 'local')
     or not exists (select 1 from public.profiles where user_id = p_to and origin = 'account') then
    raise exception 'there is no account to adopt these ratings, or they are an account''s own' using errcode = 'P0002';
  end if;
  update public.chat_feedback f set user_id = p_to
  where f.user_id = p_from and not exists (
    select 1 from public.chat_feedback own
    where own.user_id = p_to and own.chat_id = f.chat_id and own.step_id is not distinct from f.step_id);
  get diagnostics moved = row_count;
  update public.chats c set owner_id = p_to where c.owner_id = p_from;
  update public.preferences f set user_id = p_to
  where f.user_id = p_from and not exists (
    select 1 from public.preferences own where own.user_id = p_to and own.chat_id = f.chat_id and own.other_id = f.other_id
      and own.step_order is not distinct from f.step_order and own.aspect = f.aspect);
  get diagnostics here = row_count; moved := moved + here;
  update public.aspect_ratings f set user_id = p_to
  where f.user_id = p_from and not exists (
    select 1 from public.aspect_ratings own where own.user_id = p_to and own.chat_id = f.chat_id
      and own.step_id is not distinct from f.step_id and own.aspect = f.aspect);
  get diagnostics here = row_count; moved := moved + here;
  delete from public.profiles p
  where p.user_id = p_from and not exists (select 1 from public.chat_feedback f where f.user_id = p_from)
    and not exists (select 1 from public.preferences f where f.user_id = p_from)
    and not exists (select 1 from public.aspect_ratings f where f.user_id = p_from);
  return moved;
end $$;
