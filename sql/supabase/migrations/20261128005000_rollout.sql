-- Which checkpoint serves whom, and what answers people got from which.
create table public.model_log ( -- what was decided of checkpoints: only added to; the last entry of a kind is how things stand
  kind          text not null check (kind in ('reward', 'policy')),
  number        integer not null check (number >= 1), -- without gaps: of two who decide at once, the second is refused
  at            timestamptz not null,
  who           text not null,
  act           text not null check (act in ('candidate', 'drop', 'serve', 'canary', 'share', 'back')),
  checkpoint_id text not null check (length(checkpoint_id) between 1 and 500),
  reason        text not null check (btrim(reason) <> '' and length(reason) <= 2000),
  state         jsonb not null, -- after it
  detail        jsonb not null default '{}', -- figures it was decided on
  primary key (kind, number)
);
alter table public.model_log enable row level security;
create policy model_log_select on public.model_log for select to authenticated
  using ((select private.has_role('analyst', 'engineer', 'admin')));
create function private.model_log_stays() returns trigger
language plpgsql set search_path = '' as $$
begin
  raise exception 'the log of models is only added to' using errcode = '42501';
end $$;
create trigger model_log_stays before update or delete or truncate on public.model_log
  for each statement execute function private.model_log_stays();

create table public.served_chats ( -- which checkpoint answered a person; the application's server writes it with the secret key
  number        bigint generated always as identity primary key, -- in the order of coming in
  chat_id       uuid not null unique references public.chats (id) on delete cascade,
  at            timestamptz not null default now(),
  checkpoint_id text not null check (length(checkpoint_id) between 1 and 500),
  begun         integer, -- the entry with which the roll-out began that was under way; null: none
  refused       boolean,
  latency_ms    double precision check (latency_ms >= 0)
);
create index served_chats_rollout on public.served_chats (begun, number);
alter table public.served_chats enable row level security;

create function public.list_model_events(p_kind text) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
begin
  perform private.require_role('analyst', 'engineer', 'admin');
  return (select coalesce(jsonb_agg(jsonb_build_array(m.number, private.utc(m.at), m.who, m.act, m.checkpoint_id, m.reason, m.state,
                                                      m.detail) order by m.number), '[]')
          from public.model_log m where m.kind = p_kind);
end $$;

-- As who is signed in, whatever name was sent; the operator names whom they act for.
create function public.add_model_event(
  p_kind text, p_number integer, p_at timestamptz, p_who text, p_act text, p_checkpoint_id text, p_reason text, p_state text, p_detail text
) returns void
language plpgsql volatile security definer set search_path = '' as $$
begin
  perform private.require_role('engineer', 'admin');
  perform pg_advisory_xact_lock(hashtext('model_log ' || p_kind));
  if p_number <> 1 + (select count(*) from public.model_log m where m.kind = p_kind) then
    raise exception 'somebody else decided something meanwhile' using errcode = '23505';
  end if;
  insert into public.model_log (kind, number, at, who, act, checkpoint_id, reason, state, detail)
  values (p_kind, p_number, p_at, case when private.is_operator() then p_who else private.caller_name() end, p_act, p_checkpoint_id,
          p_reason, p_state::jsonb, p_detail::jsonb);
end $$;

create function public.list_served(p_begun integer, p_canary text, p_control text) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
begin
  perform private.require_role('analyst', 'engineer', 'admin');
  return (select coalesce(jsonb_agg(jsonb_build_array(t.checkpoint_id, t.owner_id, t.rating, t.characters, t.refused, t.latency_ms)
                                    order by t.at, t.number), '[]')
          from (select s.number, s.checkpoint_id, c.owner_id, avg(f.feedback_score)::double precision as rating,
                       length(c.response) as characters, s.refused, s.latency_ms, coalesce(min(f.created_at), s.at) as at
                from public.served_chats s
                join public.chats c on c.id = s.chat_id
                left join public.chat_feedback f on f.chat_id = s.chat_id and f.user_id = c.owner_id
                where s.begun = p_begun and s.checkpoint_id in (p_canary, p_control) and c.owner_id is not null
                group by s.number, c.id) t);
end $$;

-- Where a person stands between 0 and 1: as rlhf_core.ground.rollout.bucket.
create function private.rollout_bucket(p_salt text, p_user_id text) returns double precision
language sql immutable set search_path = '' as $$
  select ('x' || left(encode(sha256(convert_to(p_salt || ':' || p_user_id, 'UTF8')), 'hex'), 8))::bit(32)::bigint::bit(64)::bigint
         / 4294967296.0::double precision
$$;

-- The checkpoint that a person gets, and the arm. Who is signed in asks for themselves; the application's server names a person.
create function public.assignment(p_kind text default 'policy', p_user_id uuid default null) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  v_user uuid := case when private.is_operator() then p_user_id else (select auth.uid()) end;
  v_state jsonb;
  v_canary boolean;
begin
  if v_user is null then
    raise exception 'say whose assignment: p_user_id is missing' using errcode = '22023';
  end if;
  select m.state into v_state from public.model_log m where m.kind = p_kind order by m.number desc limit 1;
  v_canary := v_state ->> 'canary' is not null
              and private.rollout_bucket(v_state ->> 'salt', v_user::text) < (v_state ->> 'share')::double precision;
  return jsonb_build_object('checkpoint', v_state ->> case when v_canary then 'canary' else 'serving' end,
                            'arm', case when coalesce(v_canary, false) then 'canary' else 'control' end,
                            'begun', (v_state ->> 'begun')::integer);
end $$;
