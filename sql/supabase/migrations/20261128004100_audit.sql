-- Who did what with the team's feedback: a log that is only added to. Services write it through note_act as the person who acts; roles
-- are noted by the database itself, whoever changes them and by whatever way.
create table public.audit_log (
  id     bigint generated always as identity primary key,
  at     timestamptz not null default now(),
  who    text not null,
  act    text not null check (btrim(act) <> '' and length(act) <= 100),
  what   text not null check (length(what) <= 500),
  detail jsonb not null default '{}'
);
alter table public.audit_log enable row level security;
create policy audit_select on public.audit_log for select to authenticated using ((select private.has_role('admin')));

create function private.audit_stays() returns trigger
language plpgsql set search_path = '' as $$
begin
  raise exception 'the audit log is only added to' using errcode = '42501';
end $$;
create trigger audit_log_stays before update or delete or truncate on public.audit_log
  for each statement execute function private.audit_stays();

-- Who calls: the name of the account, the operator, or the database's own user.
create function private.caller_name() returns text
language sql stable security definer set search_path = '' as $$
  select coalesce((select p.display_name from public.profiles p where p.user_id = (select auth.uid())),
                  case when private.is_operator() then 'operator' else session_user::text end)
$$;

create function public.note_act(p_act text, p_what text, p_detail text default '{}') returns void
language plpgsql volatile security definer set search_path = '' as $$
begin
  if not private.is_operator() and (select auth.uid()) is null then
    raise exception 'this needs an account' using errcode = '42501';
  end if;
  insert into public.audit_log (who, act, what, detail) values (private.caller_name(), p_act, left(p_what, 500), coalesce(p_detail, '{}')::jsonb);
end $$;

create function public.list_acts(p_words text default '', p_limit integer default 500) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
begin
  perform private.require_role('admin');
  return (select coalesce(jsonb_agg(jsonb_build_array(private.utc(a.at), a.who, a.act, a.what, a.detail) order by a.id desc), '[]')
          from (select * from public.audit_log l
                where position(lower(btrim(p_words)) in lower(l.who || ' ' || l.act || ' ' || l.what || ' ' || l.detail::text)) > 0
                order by l.id desc limit least(p_limit, 5000)) a);
end $$;

create function private.note_role() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  insert into public.audit_log (who, act, what, detail)
  values (private.caller_name(), 'role', new.display_name, jsonb_build_object('role', new.role, 'before', old.role));
  return null;
end $$;
create trigger profiles_role_noted after update of role on public.profiles
  for each row when (old.role is distinct from new.role) execute function private.note_role();
