-- What the store asks for. One function for each request, so that a rating costs one round trip and what belongs together
-- is written together. They run as the person who calls (security invoker), under row level security, unless they say why not.
-- Answers are JSON, which the API's cap on rows does not cut; long ones come in pages by key.

create function private.utc(p_time timestamptz) returns text
language sql immutable set search_path = '' as $$
  select to_char(p_time at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$$;
create function private.chat_line(c public.chats) returns jsonb
language sql immutable set search_path = '' as $$
  select jsonb_build_array(c.id, c.query, c.response, c.source, c.model, c.external_id, c.owner_id, private.utc(c.created_at))
$$;
create function private.feedback_line(f public.chat_feedback) returns jsonb
language sql immutable set search_path = '' as $$
  select jsonb_build_array(f.id, f.chat_id, f.step_id, f.user_id, f.feedback_type, f.feedback_score, f.scale, f.comment,
                           private.utc(f.created_at), private.utc(f.updated_at))
$$;
create function private.profile_line(p public.profiles) returns jsonb
language sql immutable set search_path = '' as $$
  select jsonb_build_array(p.user_id, p.display_name, p.origin, private.utc(p.created_at))
$$;

-- people ---------------------------------------------------------------------
create function public.me() returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_object('user_id', p.user_id, 'display_name', p.display_name, 'role', p.role, 'consent', p.consent)
  from public.profiles p where p.user_id = (select auth.uid())
$$;

create function public.rename_me(p_name text) returns jsonb
language sql volatile set search_path = '' as $$
  update public.profiles p set display_name = btrim(p_name) where p.user_id = (select auth.uid())
  returning private.profile_line(p)
$$;

create function public.list_profiles(p_origin text default null) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(jsonb_agg(private.profile_line(p) order by p.display_name, p.user_id), '[]')
  from public.profiles p where p_origin is null or p.origin = p_origin
$$;

-- definer: a rater named in a file is nobody's own row
create function public.add_profile(p_user_id uuid, p_name text, p_origin text) returns jsonb
language plpgsql volatile security definer set search_path = '' as $$
declare found jsonb;
begin
  perform private.require_role('engineer', 'admin');
  insert into public.profiles (user_id, display_name, origin) values (p_user_id, btrim(p_name), p_origin)
  on conflict (user_id) do nothing;
  select private.profile_line(p) into found from public.profiles p
  where p.user_id = p_user_id and (p.origin <> 'account' or private.is_operator() or private.has_role('admin'));
  if found is null then -- an account's name is not for everybody
    raise exception 'this identifier is an account''s' using errcode = '23505';
  end if;
  return found;
end $$;

-- definer: e-mail addresses live in a schema that nobody else may read
create function public.team() returns jsonb
language plpgsql stable security definer set search_path = '' as $$
begin
  perform private.require_role('admin');
  return (select coalesce(jsonb_agg(jsonb_build_object(
            'user_id', p.user_id, 'display_name', p.display_name, 'role', p.role, 'email', u.email,
            'created_at', private.utc(p.created_at),
            'ratings', (select count(*) from public.chat_feedback f where f.user_id = p.user_id))
            order by p.role is not null, p.display_name, p.user_id), '[]')
          from public.profiles p join auth.users u on u.id = p.account_id);
end $$;

-- definer: no person may write a role otherwise
create function public.set_role(p_user_id uuid, p_role text) returns text
language plpgsql volatile security definer set search_path = '' as $$
begin
  perform private.require_role('admin');
  perform 1 from public.profiles where role = 'admin' order by user_id for update; -- two at once cannot remove each other
  if not exists (select 1 from public.profiles where user_id = p_user_id and origin = 'account') then
    raise exception 'there is no account %', p_user_id using errcode = 'P0002';
  end if;
  if p_role is distinct from 'admin'
     and (select role from public.profiles where user_id = p_user_id) = 'admin'
     and (select count(*) from public.profiles where role = 'admin') = 1 then
    raise exception 'the last administrator stays one; make somebody else an administrator first' using errcode = '22023';
  end if;
  update public.profiles set role = p_role where user_id = p_user_id;
  return p_role;
end $$;

-- rating ---------------------------------------------------------------------
-- The step must be one of the chat's, so no row comes back where they do not belong together. Time is the server's.
create function public.rate(p_id uuid, p_chat_id uuid, p_step_id uuid, p_score integer, p_scale text) returns jsonb
language sql volatile set search_path = '' as $$
  insert into public.chat_feedback as f (id, chat_id, step_id, user_id, feedback_type, feedback_score, scale)
  select p_id, c.id, p_step_id, (select auth.uid()),
         case when p_score >= 4 then 'positive' when p_score <= 2 then 'negative' else 'neutral' end, p_score, p_scale
  from public.chats c
  where c.id = p_chat_id
    and (p_step_id is null or exists (
      select 1 from public.reasoning_steps s where s.id = p_step_id and s.chat_id = p_chat_id))
  on conflict (user_id, chat_id, step_id) do update
  set feedback_type = excluded.feedback_type, feedback_score = excluded.feedback_score, scale = excluded.scale,
      updated_at = now()
  returning private.feedback_line(f)
$$;

create function public.comment_on(p_chat_id uuid, p_step_id uuid, p_comment text) returns jsonb
language sql volatile set search_path = '' as $$
  update public.chat_feedback f set comment = p_comment, updated_at = now()
  where f.user_id = (select auth.uid()) and f.chat_id = p_chat_id and f.step_id is not distinct from p_step_id
  returning private.feedback_line(f)
$$;

create function public.withdraw(p_chat_id uuid, p_step_id uuid) returns boolean
language sql volatile set search_path = '' as $$
  with gone as (
    delete from public.chat_feedback f
    where f.user_id = (select auth.uid()) and f.chat_id = p_chat_id and f.step_id is not distinct from p_step_id
    returning 1)
  select exists (select 1 from gone)
$$;

create function public.my_ratings(p_chat_id uuid) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(jsonb_agg(private.feedback_line(f)), '[]') from public.chat_feedback f
  where f.user_id = (select auth.uid()) and f.chat_id = p_chat_id
$$;

create function public.my_progress() returns jsonb
language sql stable set search_path = '' as $$
  with mine as (
    select f.chat_id, count(*) as n from public.chat_feedback f where f.user_id = (select auth.uid()) group by f.chat_id)
  select jsonb_build_array(
    (select count(*) from mine
     where n = 1 + (select count(*) from public.reasoning_steps s where s.chat_id = mine.chat_id)),
    (select count(*) from public.chats),
    (select coalesce(sum(n), 0) from mine))
$$;

create function public.next_chat(p_after_created_at timestamptz default null, p_after_id uuid default null) returns uuid
language sql stable set search_path = '' as $$
  select c.id from public.chats c
  where (p_after_id is null or (c.created_at, c.id) > (p_after_created_at, p_after_id))
    and (select count(*) from public.chat_feedback f where f.user_id = (select auth.uid()) and f.chat_id = c.id)
        < 1 + (select count(*) from public.reasoning_steps s where s.chat_id = c.id)
  order by c.created_at, c.id
  limit 1
$$;

create function public.get_chat(p_chat_id uuid) returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_object('chat', private.chat_line(c), 'steps', (
    select coalesce(jsonb_agg(jsonb_build_array(s.id, s.chat_id, s.step_content, s.step_order) order by s.step_order), '[]')
    from public.reasoning_steps s where s.chat_id = c.id))
  from public.chats c where c.id = p_chat_id
$$;

-- everything the label page shows of one chat, in one round trip
create function public.label_view(p_chat_id uuid) returns jsonb
language sql stable set search_path = '' as $$
  select public.get_chat(p_chat_id)
         || jsonb_build_object('ratings', public.my_ratings(p_chat_id), 'progress', public.my_progress())
$$;

create function public.previous_chat(p_before_created_at timestamptz, p_before_id uuid) returns uuid
language sql stable set search_path = '' as $$
  select c.id from public.chats c where (c.created_at, c.id) < (p_before_created_at, p_before_id)
  order by c.created_at desc, c.id desc limit 1
$$;

create function public.search_chats(p_text text, p_limit integer) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(jsonb_agg(private.chat_line(c) order by c.created_at, c.id), '[]')
  from (select * from public.chats c
        where p_text = '' or position(lower(p_text) in lower(c.query)) > 0
        order by c.created_at, c.id limit p_limit) c
$$;

create function public.mean_scores(p_chat_id uuid) returns jsonb
language sql stable set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_array(step_id, mean, n)), '[]')
  from (select f.step_id, avg(f.feedback_score)::double precision as mean, count(*) as n
        from public.chat_feedback f where f.chat_id = p_chat_id group by f.step_id) by_step
$$;

create function public.store_counts() returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_array(
    (select count(*) from public.chats), (select count(*) from public.reasoning_steps), count(*), count(distinct f.user_id),
    private.utc(max(f.updated_at)))
  from public.chat_feedback f
$$;

-- import: parts are staged, then all of them become rows in one transaction ----
-- All definer: what a file brings belongs to nobody, and its raters have no account.
create function private.my_import(p_import uuid) returns void
language plpgsql stable security definer set search_path = '' as $$
begin
  perform private.require_role('engineer', 'admin');
  if not exists (select 1 from private.imports i where i.id = p_import and i.owner_id is not distinct from auth.uid()) then
    raise exception 'there is no import % of yours; begin it again', p_import using errcode = 'P0002';
  end if;
end $$;

create function public.stage_import(p_import uuid, p_part integer, p_kind text, p_rows text) returns void
language plpgsql volatile security definer set search_path = '' as $$
begin
  perform private.require_role('engineer', 'admin');
  if p_part = 0 then
    delete from private.imports where begun_at < now() - interval '1 day';
    insert into private.imports (id, owner_id) values (p_import, auth.uid()) on conflict (id) do nothing;
  end if;
  perform private.my_import(p_import);
  insert into private.import_parts (import_id, part, kind, rows) values (p_import, p_part, p_kind, p_rows::jsonb)
  on conflict (import_id, part) do update set kind = excluded.kind, rows = excluded.rows;
end $$;

create function public.drop_import(p_import uuid) returns void
language plpgsql volatile security definer set search_path = '' as $$
begin
  perform private.require_role('engineer', 'admin');
  delete from private.imports where id = p_import and owner_id is not distinct from auth.uid();
end $$;

create function public.finish_import(p_import uuid, p_parts integer) returns jsonb
language plpgsql volatile security definer set search_path = '' set statement_timeout = '10min' as $$
declare
  here integer; answer jsonb; offered_chats bigint; offered_feedback bigint; added_chats bigint; added_steps bigint; added_feedback bigint;
begin
  perform private.my_import(p_import);
  select i.result into answer from private.imports i where i.id = p_import for update;
  if answer is not null then return answer; end if;
  select count(*) into here from private.import_parts where import_id = p_import;
  if here <> p_parts then
    raise exception '% of % parts arrived', here, p_parts using errcode = '22023';
  end if;
  select coalesce(sum(jsonb_array_length(rows)) filter (where kind = 'chats'), 0),
         coalesce(sum(jsonb_array_length(rows)) filter (where kind = 'chat_feedback'), 0)
  into offered_chats, offered_feedback from private.import_parts where import_id = p_import;

  insert into public.profiles (user_id, display_name, origin)
  select (r ->> 0)::uuid, btrim(r ->> 1), r ->> 2
  from private.import_parts p cross join jsonb_array_elements(p.rows) as r
  where p.import_id = p_import and p.kind = 'profiles'
  order by 1 -- always the same order, so that two imports at once wait for each other instead of dying of a deadlock
  on conflict (user_id) do nothing;

  insert into public.chats (id, query, response, source, model, external_id, created_at)
  select (r ->> 0)::uuid, r ->> 1, r ->> 2, r ->> 3, r ->> 4, r ->> 5, (r ->> 6)::private.utc_text::timestamptz
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
    join public.profiles who on who.user_id = (r ->> 3)::uuid and who.origin = 'account'
    where p.import_id = p_import and p.kind = 'chat_feedback') then
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

  answer := jsonb_build_object('chats', added_chats, 'steps', added_steps, 'ratings', added_feedback,
    'known_chats', offered_chats - added_chats, 'known_ratings', offered_feedback - added_feedback);
  delete from private.import_parts where import_id = p_import;
  update private.imports set result = answer where id = p_import;
  return answer;
end $$;

-- export: one statement marks what there is at one moment; pages by key follow ----
-- All definer: roles are asked once, at the door, instead of for each of a million rows.
create function private.my_export(p_export uuid) returns void
language plpgsql stable security definer set search_path = '' as $$
begin
  perform private.require_role('analyst', 'engineer', 'admin');
  if not exists (select 1 from private.exports e where e.id = p_export and e.owner_id is not distinct from auth.uid()) then
    raise exception 'there is no export % of yours; begin it again', p_export using errcode = 'P0002';
  end if;
end $$;

create function public.end_export(p_export uuid) returns void
language plpgsql volatile security definer set search_path = '' as $$
begin
  perform private.require_role('analyst', 'engineer', 'admin');
  delete from private.exports e where e.id = p_export and e.owner_id is not distinct from auth.uid();
  if found then
    delete from private.export_chats where export_id = p_export;
    delete from private.export_feedback where export_id = p_export;
  end if;
end $$;

create function public.begin_export(p_export uuid) returns jsonb
language plpgsql volatile security definer set search_path = '' set statement_timeout = '5min' as $$
declare old uuid[]; answer jsonb;
begin
  perform private.require_role('analyst', 'engineer', 'admin');
  delete from private.exports where begun_at < now() - interval '6 hours';
  delete from private.export_chats c where not exists (select 1 from private.exports e where e.id = c.export_id);
  delete from private.export_feedback f where not exists (select 1 from private.exports e where e.id = f.export_id);
  insert into private.exports (id, owner_id) values (p_export, auth.uid()) on conflict (id) do nothing;
  if not found then -- a repeat of a request whose answer was lost
    perform private.my_export(p_export);
    delete from private.export_chats where export_id = p_export;
    delete from private.export_feedback where export_id = p_export;
  end if;
  with chats as ( -- one statement, one moment
    insert into private.export_chats (export_id, chat_id) select p_export, c.id from public.chats c returning 1
  ), feedback as (
    insert into private.export_feedback (export_id, n, updated_at, line)
    select p_export, row_number() over (order by f.chat_id, f.step_id nulls first, f.user_id), f.updated_at,
           private.feedback_line(f)
    from public.chat_feedback f returning 1
  )
  select jsonb_build_object(
    'chats', (select count(*) from chats), 'chat_feedback', (select count(*) from feedback),
    'reasoning_steps', (select count(*) from public.reasoning_steps),
    'demo_raters', (select coalesce(jsonb_agg(p.user_id), '[]') from public.profiles p where p.origin = 'demo'))
  into answer;
  return answer;
end $$;

-- A page ends at p_limit rows or about p_bytes of text, whichever comes first, but holds one row at least.
create function public.export_chats(p_export uuid, p_after_created_at timestamptz, p_after_id uuid, p_limit integer,
                                    p_bytes bigint) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
begin
  perform private.my_export(p_export);
  return (
    select coalesce(jsonb_agg(page.line order by page.created_at, page.id), '[]')
    from (
      select c.created_at, c.id, private.chat_line(c) as line,
             sum(octet_length(c.query) + octet_length(c.response)) over (order by c.created_at, c.id)
               - octet_length(c.query) - octet_length(c.response) as before
      from (
        select c.* from public.chats c
        where (p_after_id is null or (c.created_at, c.id) > (p_after_created_at, p_after_id))
          and exists (select 1 from private.export_chats e where e.export_id = p_export and e.chat_id = c.id)
        order by c.created_at, c.id limit p_limit) c
    ) page where page.before < p_bytes);
end $$;

create function public.export_steps(p_export uuid, p_after_chat uuid, p_after_order integer, p_limit integer, p_bytes bigint)
returns jsonb
language plpgsql stable security definer set search_path = '' as $$
begin
  perform private.my_export(p_export);
  return (
    select coalesce(jsonb_agg(jsonb_build_array(page.id, page.chat_id, page.step_content, page.step_order,
                                                private.utc(page.created_at)) order by page.chat_id, page.step_order), '[]')
    from (
      select s.*, sum(octet_length(s.step_content)) over (order by s.chat_id, s.step_order)
                  - octet_length(s.step_content) as before
      from (
        select s.* from public.reasoning_steps s
        where (p_after_chat is null or (s.chat_id, s.step_order) > (p_after_chat, p_after_order))
          and exists (select 1 from private.export_chats e where e.export_id = p_export and e.chat_id = s.chat_id)
        order by s.chat_id, s.step_order limit p_limit) s
    ) page where page.before < p_bytes);
end $$;

create function public.export_feedback(p_export uuid, p_after bigint, p_limit integer, p_since timestamptz default null)
returns jsonb
language plpgsql stable security definer set search_path = '' as $$
begin
  perform private.my_export(p_export);
  return (
    select jsonb_build_object('last', max(page.n), 'rows', coalesce(jsonb_agg(page.line order by page.n)
                                filter (where p_since is null or page.updated_at >= p_since), '[]'))
    from (select f.n, f.updated_at, f.line from private.export_feedback f
          where f.export_id = p_export and f.n > p_after order by f.n limit p_limit) page);
end $$;

-- carrying a store over: what is here already, and is it the same ---------------
-- For each id given, the hash of the row that is here: the fields joined by U+001F, a null as U+2400. When a chat or step came
-- into a store is left out: the same file may have been imported into both, each at its own time.
create function public.row_hashes(p_table text, p_ids text) returns jsonb
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
  else
    raise exception 'no table %', p_table using errcode = '22023';
  end if;
  return coalesce(answer, '{}');
end $$;
create function private.row_hash(p_line jsonb) returns text
language sql immutable set search_path = '' as $$
  select encode(sha256(convert_to(string_agg(coalesce(field, U&'\2400'), U&'\001F' order by n), 'UTF8')), 'hex')
  from jsonb_array_elements_text(p_line) with ordinality as t (field, n)
$$;

-- of [id, user_id, chat_id, step_id]s, the ids whose person has judged that thing here under another id
create function public.judged_otherwise(p_judgements text) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
begin
  perform private.require_role('admin');
  return (select coalesce(jsonb_agg(j ->> 0), '[]') from jsonb_array_elements(p_judgements::jsonb) as j
          where exists (select 1 from public.chat_feedback f
                        where f.user_id = (j ->> 1)::uuid and f.chat_id = (j ->> 2)::uuid
                          and f.step_id is not distinct from (j ->> 3)::uuid and f.id <> (j ->> 0)::uuid));
end $$;

-- judgements that were changed on the other side later than here
create function public.renew_feedback(p_rows text) returns bigint
language plpgsql volatile security definer set search_path = '' as $$
declare renewed bigint;
begin
  perform private.require_role('admin');
  update public.chat_feedback f
  set feedback_type = r ->> 4, feedback_score = (r ->> 5)::smallint, scale = r ->> 6, comment = r ->> 7,
      updated_at = (r ->> 9)::private.utc_text::timestamptz
  from jsonb_array_elements(p_rows::jsonb) as r
  where f.id = (r ->> 0)::uuid and f.user_id = (r ->> 3)::uuid
    and f.updated_at < (r ->> 9)::private.utc_text::timestamptz;
  get diagnostics renewed = row_count;
  return renewed;
end $$;

-- Somebody who was carried over without an account has one now: their ratings become the account's, but where it has rated
-- the same thing itself. Returns how many moved.
create function public.adopt_ratings(p_from uuid, p_to uuid) returns bigint
language plpgsql volatile security definer set search_path = '' as $$
declare moved bigint;
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
  delete from public.profiles p
  where p.user_id = p_from and not exists (select 1 from public.chat_feedback f where f.user_id = p_from);
  return moved;
end $$;
