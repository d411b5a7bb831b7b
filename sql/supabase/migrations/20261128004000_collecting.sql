-- What a chat application's own people send: signals, and judgements of their own chats, straight to the tables.
alter table public.label_events drop constraint label_events_kind_check;
alter table public.label_events add constraint label_events_kind_check
  check (kind in ('dwell', 'edit', 'skip', 'copy', 'regenerate', 'follow_up'));
alter table public.profiles drop constraint profiles_origin_check;
alter table public.profiles add constraint profiles_origin_check
  check (origin in ('account', 'local', 'imported', 'demo', 'application'));

-- People with an account and no role judge the chats that are theirs, and no others. The application's server writes those chats
-- with the secret key, naming their owner.
create policy feedback_insert_of_ones_chats on public.chat_feedback for insert to authenticated
  with check (user_id = (select auth.uid()) and chat_id in (select private.my_chats()));
create policy feedback_update_of_ones_chats on public.chat_feedback for update to authenticated
  using (user_id = (select auth.uid()))
  with check (user_id = (select auth.uid()) and chat_id in (select private.my_chats()));
create policy events_insert_of_ones_chats on public.label_events for insert to authenticated
  with check (user_id = (select auth.uid()) and chat_id in (select private.my_chats()));

-- Who is left out of an export: who withdrew; and people of an application who were not asked. Those are known by their origin, or by
-- chats of their own without a role.
create or replace function private.withdrawn() returns table (user_id uuid)
language sql stable security definer set search_path = '' as $$
  select p.user_id from public.profiles p
  where p.consent is false and (
    p.consent_at is not null or p.origin = 'application'
    or (p.role is null and exists (select 1 from public.chats c where c.owner_id = p.user_id))
  )
$$;
