-- Who may read and write which rows.
--  * helpers that read a table with row level security are security definer, with search_path pinned to '' and in a schema
--    that the API does not expose: no policy recursion, no hijacked search path
--  * each call of auth.uid() or a helper is wrapped in (select ...): evaluated once a statement, not once a row
--  * every policy names its role, so anonymous requests never evaluate one
create function private.my_role() returns text
language sql stable security definer set search_path = '' as $$
  select p.role from public.profiles p where p.user_id = (select auth.uid())
$$;
-- The operator holds the secret key. The setting says who called, also inside a security definer function.
create function private.is_operator() returns boolean
language sql stable set search_path = '' as $$
  select coalesce(current_setting('role', true), '') = 'service_role'
$$;
create function private.has_role(variadic p_roles text[]) returns boolean
language sql stable security definer set search_path = '' as $$
  select coalesce((select private.my_role()) = any (p_roles), false)
$$;
create function private.sees_all_chats() returns boolean
language sql stable security definer set search_path = '' as $$
  select private.has_role('annotator', 'analyst', 'engineer', 'admin')
$$;
create function private.sees_all_feedback() returns boolean
language sql stable security definer set search_path = '' as $$
  select private.has_role('analyst', 'engineer', 'admin')
$$;
create function private.my_chats() returns setof uuid
language sql stable security definer set search_path = '' as $$
  select c.id from public.chats c where c.owner_id = (select auth.uid())
$$;
create function private.require_role(variadic p_roles text[]) returns void
language plpgsql stable set search_path = '' as $$
begin
  if private.is_operator() or private.has_role(variadic p_roles) then return; end if;
  raise exception 'this needs the role %', array_to_string(p_roles, ' or ') using errcode = '42501';
end $$;

alter table public.profiles         enable row level security;
alter table public.chats            enable row level security;
alter table public.reasoning_steps  enable row level security;
alter table public.chat_feedback    enable row level security;
alter table private.imports         enable row level security; -- no policy: reached through functions only
alter table private.import_parts    enable row level security;
alter table private.exports         enable row level security;
alter table private.export_chats    enable row level security;
alter table private.export_feedback enable row level security;

-- profiles: one's own; administrators see everybody
create policy profiles_select on public.profiles for select to authenticated
  using (user_id = (select auth.uid()) or (select private.has_role('admin')));
create policy profiles_update_own on public.profiles for update to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));

-- chats: one's own; with a role, all. Sign-up is open, so nobody writes chats or steps directly: a deleted or rewritten chat
-- would take other people's ratings along. They come in by the functions of an import.
create policy chats_select on public.chats for select to authenticated
  using ((select private.sees_all_chats()) or owner_id = (select auth.uid()));

-- steps: as their chat
create policy steps_select on public.reasoning_steps for select to authenticated
  using ((select private.sees_all_chats()) or chat_id in (select private.my_chats()));

-- feedback: one's own, with a role; analysts, engineers and administrators read all
create policy feedback_select on public.chat_feedback for select to authenticated
  using ((select private.sees_all_feedback()) or user_id = (select auth.uid()));
create policy feedback_insert on public.chat_feedback for insert to authenticated
  with check (user_id = (select auth.uid()) and (select private.sees_all_chats()));
create policy feedback_update on public.chat_feedback for update to authenticated
  using (user_id = (select auth.uid()))
  with check (user_id = (select auth.uid()) and (select private.sees_all_chats()));
create policy feedback_delete on public.chat_feedback for delete to authenticated
  using (user_id = (select auth.uid()));

-- Column grants keep people off profiles.role already; this keeps it so if somebody widens a grant. In a trigger that is not
-- security definer, current_user is the role that the request came with.
create function private.guard_profile() returns trigger
language plpgsql set search_path = '' as $$
begin
  if current_user in ('anon', 'authenticated')
     and (new.role, new.origin, new.user_id) is distinct from (old.role, old.origin, old.user_id) then
    raise exception 'a role is given by an administrator' using errcode = '42501';
  end if;
  return new;
end $$;
create trigger profiles_guard before update on public.profiles
  for each row execute function private.guard_profile();
