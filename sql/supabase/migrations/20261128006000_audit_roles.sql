-- Only members write into the log of who did what; it says whose account it was, since names can be changed; what is written is short,
-- and changes of roles are noted by the database alone. Lines from before have no account.
alter table public.audit_log add column user_id uuid default auth.uid();
alter table public.audit_log add constraint audit_log_is_short check (octet_length(detail::text) <= 10000) not valid;

create or replace function public.note_act(p_act text, p_what text, p_detail text default '{}') returns void
language plpgsql volatile security definer set search_path = '' as $$
begin
  perform private.require_role('annotator', 'analyst', 'engineer', 'admin');
  if p_act = 'role' then
    raise exception 'the database notes roles by itself' using errcode = '42501';
  end if;
  insert into public.audit_log (who, act, what, detail)
  values (private.caller_name(), p_act, left(p_what, 500), coalesce(p_detail, '{}')::jsonb);
end $$;
