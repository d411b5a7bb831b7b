-- People, chats, their reasoning steps, and people's judgement of them. Plain Postgres 15 or newer, no extensions.
-- The same rules as the embedded store's schema. Identifiers are made by the client.

create schema if not exists private; -- helpers and staging; not a schema that the API exposes
revoke all on schema private from public;

-- times travel as text with microseconds and a Z; a time without a zone is refused instead of guessed at
create domain private.utc_text as text
  constraint utc_text_has_a_zone check (value ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$');

create table public.profiles (
  user_id      uuid primary key,
  display_name text not null
               check (btrim(display_name) <> '' and length(display_name) <= 200 and display_name !~ '[[:cntrl:]]'),
  -- account: can sign in; local: carried over from an embedded store; imported, demo: raters named in files
  origin       text not null check (origin in ('account', 'local', 'imported', 'demo')),
  -- null until an administrator gives one: sign-up is open by default on hosted projects, and every role sees all chats
  role         text check (role in ('annotator', 'analyst', 'engineer', 'admin')),
  consent      boolean not null default false,
  consent_at   timestamptz,
  created_at   timestamptz not null default now(),
  updated_at   timestamptz not null default now(),
  account_id   uuid generated always as (case when origin = 'account' then user_id end) stored
               references auth.users (id) on delete cascade,
  constraint profiles_only_accounts_have_roles check (role is null or origin = 'account')
);
create unique index profiles_account_idx on public.profiles (account_id);

create table public.chats (
  id          uuid primary key,
  owner_id    uuid references public.profiles (user_id) on delete set null,
  query       text not null check (btrim(query) <> ''),
  response    text not null,
  source      text not null,
  model       text,
  external_id text,
  created_at  timestamptz not null default now()
);
create index chats_created_idx on public.chats (created_at, id);
create index chats_owner_idx on public.chats (owner_id) where owner_id is not null;

create table public.reasoning_steps (
  id           uuid primary key,
  chat_id      uuid not null references public.chats (id) on delete cascade,
  step_content text not null check (step_content <> ''),
  step_order   integer not null check (step_order >= 1),
  created_at   timestamptz not null default now(),
  unique (chat_id, step_order),
  unique (chat_id, id) -- what chat_feedback points at, so that a step can be rated under its own chat only
);

create table public.chat_feedback (
  id             uuid primary key,
  chat_id        uuid not null references public.chats (id) on delete cascade,
  message_id     text,
  step_id        uuid, -- null: the whole answer
  user_id        uuid not null default auth.uid() references public.profiles (user_id) on delete cascade,
  feedback_type  text not null,
  feedback_score smallint not null check (feedback_score between 1 and 5),
  scale          text not null check (scale in ('stars', 'thumbs')),
  comment        text check (length(comment) <= 8000),
  created_at     timestamptz not null default now(),
  updated_at     timestamptz not null default now(),
  constraint chat_feedback_type_agrees_with_score check (
    feedback_type = case when feedback_score >= 4 then 'positive' when feedback_score <= 2 then 'negative' else 'neutral' end),
  constraint chat_feedback_step_of_chat foreign key (chat_id, step_id)
    references public.reasoning_steps (chat_id, id) on delete cascade,
  -- one person judges one thing once; nulls not distinct, or every judgement of a whole answer would be unique
  constraint chat_feedback_once unique nulls not distinct (user_id, chat_id, step_id)
);
create index chat_feedback_chat_idx on public.chat_feedback (chat_id, step_id);

create function private.touch_updated_at() returns trigger
language plpgsql set search_path = '' as $$
begin
  new.updated_at := now();
  return new;
end $$;
create trigger profiles_touch before update on public.profiles
  for each row execute function private.touch_updated_at();

-- One profile for each account, also for those who signed up before this schema was here.
create function private.name_of(p_user auth.users) returns text
language sql immutable set search_path = '' as $$
  select left(coalesce(nullif(btrim(regexp_replace(p_user.raw_user_meta_data ->> 'display_name', '[[:cntrl:]]+', ' ', 'g')), ''),
                       nullif(btrim(regexp_replace(split_part(coalesce(p_user.email, ''), '@', 1), '[[:cntrl:]]+', ' ', 'g')), ''),
                       'somebody'), 200)
$$;
create function private.welcome() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  insert into public.profiles (user_id, display_name, origin) values (new.id, private.name_of(new), 'account')
  on conflict (user_id) do nothing;
  return new;
end $$;
create trigger on_auth_user_created after insert on auth.users
  for each row execute function private.welcome();
insert into public.profiles (user_id, display_name, origin)
select u.id, private.name_of(u), 'account' from auth.users u
on conflict (user_id) do nothing;

-- Whole-or-nothing imports and one-moment exports take several requests; they are staged here.
create table private.imports (
  id         uuid primary key,
  owner_id   uuid, -- null: the operator
  begun_at   timestamptz not null default now(),
  result     jsonb -- set when it has become rows: asking again after a lost answer gives the same answer
);
create table private.import_parts (
  import_id  uuid not null references private.imports (id) on delete cascade,
  part       integer not null,
  kind       text not null check (kind in ('profiles', 'chats', 'reasoning_steps', 'chat_feedback')),
  rows       jsonb not null check (jsonb_typeof(rows) = 'array'),
  primary key (import_id, part)
);
create table private.exports (
  id         uuid primary key,
  owner_id   uuid,
  begun_at   timestamptz not null default now()
);
-- unlogged: a crash empties them, and an export that was under way then fails and is taken again
create unlogged table private.export_chats (
  export_id  uuid not null,
  chat_id    uuid not null,
  primary key (export_id, chat_id)
);
create unlogged table private.export_feedback (
  export_id  uuid not null,
  n          bigint not null,
  updated_at timestamptz not null,
  line       jsonb not null,
  primary key (export_id, n)
);
