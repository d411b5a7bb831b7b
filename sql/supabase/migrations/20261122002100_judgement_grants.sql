-- Privileges of what the label page uses and of what measures it, said in full; takes the place of those of 1100. May be run
-- again at any time.
revoke all on public.queues, public.queue_priorities, public.assignments, public.chat_marks, public.label_events,
  public.applied_ops, public.feedback_history, public.preferences, public.rubrics, public.aspect_ratings, public.rewrites, public.gold,
  public.gold_results, public.decisions, public.hints, public.hints_shown from public, anon, authenticated;
grant select on public.queues, public.assignments, public.feedback_history, public.rubrics, public.rewrites, public.gold,
  public.gold_results, public.decisions, public.hints_shown to authenticated;
grant select, insert, update on public.chat_marks to authenticated;
grant select, insert on public.label_events, public.applied_ops to authenticated;
grant select, insert, update, delete on public.preferences, public.aspect_ratings to authenticated;
grant all on public.queues, public.queue_priorities, public.assignments, public.chat_marks, public.label_events,
  public.applied_ops, public.feedback_history, public.preferences, public.rubrics, public.aspect_ratings, public.rewrites, public.gold,
  public.gold_results, public.decisions, public.hints, public.hints_shown to service_role;

revoke all on private.export_lines from public, anon, authenticated, service_role;
revoke all on all functions in schema private from public, anon;
revoke all on function private.grade(uuid, uuid, uuid, boolean), private.items(uuid), private.is_gold(uuid, uuid), private.is_good(integer),
  private.prefix_before(uuid, integer)
  from authenticated, service_role;
grant execute on function private.claim(uuid, integer), private.finish(uuid, uuid, uuid, text, text),
  private.queue_line(public.queues), private.decision_line(public.decisions), private.preference_line(public.preferences),
  private.aspect_line(public.aspect_ratings), private.rewrite(uuid, uuid, text),
  private.is_pair(uuid, uuid), private.asks(uuid, integer, text), private.others_rewrites()
  to authenticated, service_role;

revoke all on function
  public.list_queues(), public.save_queue(text), public.archive_queue(uuid, boolean), public.set_priorities(uuid, text),
  public.my_marks_of(uuid), public.my_words_on(uuid), public.item_view(uuid, uuid), public.label_view(uuid), public.pair_view(uuid, uuid),
  public.my_chosen(integer), public.claim(uuid, integer),
  public.release(uuid, uuid), public.queue_progress(uuid), public.apply_ops(text), public.my_history(timestamptz, integer),
  public.my_changes(uuid), public.my_everything(), public.erase_mine(), public.get_rubric(uuid), public.save_rubric(uuid, text),
  public.all_gold(), public.save_gold(uuid, uuid, uuid, text, text), public.remove_gold(uuid), public.screenings(uuid, integer),
  public.forget_screening(uuid, uuid), public.set_hints(uuid, text, text), public.after_item(uuid, uuid, uuid),
  public.disputes(integer), public.judgements(uuid, uuid), public.decisions_of(uuid, uuid),
  public.decide(uuid, uuid, uuid, uuid, text, text, text), public.undecide(uuid, uuid, uuid, text),
  public.export_lines(uuid, text, bigint, integer), public.begin_export(uuid), public.end_export(uuid)
  from public, anon, authenticated, service_role;
grant execute on function
  public.list_queues(), public.save_queue(text), public.archive_queue(uuid, boolean), public.set_priorities(uuid, text),
  public.my_marks_of(uuid), public.my_words_on(uuid), public.item_view(uuid, uuid), public.label_view(uuid), public.pair_view(uuid, uuid),
  public.my_chosen(integer), public.claim(uuid, integer),
  public.release(uuid, uuid), public.queue_progress(uuid), public.apply_ops(text), public.my_history(timestamptz, integer),
  public.my_changes(uuid), public.my_everything(), public.erase_mine(), public.get_rubric(uuid), public.save_rubric(uuid, text),
  public.all_gold(), public.save_gold(uuid, uuid, uuid, text, text), public.remove_gold(uuid), public.screenings(uuid, integer),
  public.forget_screening(uuid, uuid), public.set_hints(uuid, text, text), public.after_item(uuid, uuid, uuid),
  public.disputes(integer), public.judgements(uuid, uuid), public.decisions_of(uuid, uuid),
  public.decide(uuid, uuid, uuid, uuid, text, text, text), public.undecide(uuid, uuid, uuid, text),
  public.export_lines(uuid, text, bigint, integer), public.begin_export(uuid), public.end_export(uuid)
  to authenticated, service_role;
