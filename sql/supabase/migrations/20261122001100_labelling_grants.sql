-- Privileges of what the label page uses, said in full. May be run again at any time.
revoke all on public.queues, public.queue_priorities, public.assignments, public.chat_marks, public.label_events,
  public.applied_ops, public.feedback_history from public, anon, authenticated;
grant select on public.queues, public.assignments, public.feedback_history to authenticated;
grant select, insert, update on public.chat_marks to authenticated;
grant select, insert on public.label_events, public.applied_ops to authenticated;
grant all on public.queues, public.queue_priorities, public.assignments, public.chat_marks, public.label_events,
  public.applied_ops, public.feedback_history to service_role;

revoke all on all functions in schema private from public, anon;
grant execute on function private.claim(uuid, integer), private.finish(uuid, uuid, text, text), private.queue_line(public.queues)
  to authenticated, service_role;

revoke all on function
  public.list_queues(), public.save_queue(uuid, text, text, text, integer, integer, text, text, text),
  public.archive_queue(uuid, boolean), public.set_priorities(uuid, text), public.my_marks_of(uuid), public.label_view(uuid),
  public.claim(uuid, integer), public.release(uuid, uuid), public.queue_progress(uuid), public.apply_ops(text),
  public.my_history(timestamptz, integer), public.my_changes(uuid), public.my_everything(), public.erase_mine()
  from public, anon, authenticated, service_role;
grant execute on function
  public.list_queues(), public.save_queue(uuid, text, text, text, integer, integer, text, text, text),
  public.archive_queue(uuid, boolean), public.set_priorities(uuid, text), public.my_marks_of(uuid), public.label_view(uuid),
  public.claim(uuid, integer), public.release(uuid, uuid), public.queue_progress(uuid), public.apply_ops(text),
  public.my_history(timestamptz, integer), public.my_changes(uuid), public.my_everything(), public.erase_mine()
  to authenticated, service_role;
