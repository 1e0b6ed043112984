/*
 * core/bugs.h
 *     Planted bugs, one build flag each, all off in any build that is not the
 *     test of the tests (make test-core-bugs).  The simulator must find each.
 */
#ifndef FLEET_CORE_BUGS_H
#define FLEET_CORE_BUGS_H

/* Whoever plants one adds it here:  #ifndef FLEET_BUG_X / #define FLEET_BUG_X 0 / #endif */

/* engine, job, exec */
#ifndef FLEET_BUG_SKIP_NOT_TRANSITIVE
#define FLEET_BUG_SKIP_NOT_TRANSITIVE 0
#endif
#ifndef FLEET_BUG_EMPTY_RUN_STAYS
#define FLEET_BUG_EMPTY_RUN_STAYS 0
#endif
#ifndef FLEET_BUG_RETRY_FORGETS_LIMIT
#define FLEET_BUG_RETRY_FORGETS_LIMIT 0
#endif
#ifndef FLEET_BUG_START_AFTER_CANCEL
#define FLEET_BUG_START_AFTER_CANCEL 0
#endif
#ifndef FLEET_BUG_THROTTLE_OFF_BY_ONE
#define FLEET_BUG_THROTTLE_OFF_BY_ONE 0
#endif
#ifndef FLEET_BUG_JOIN_ANY_TWICE
#define FLEET_BUG_JOIN_ANY_TWICE 0
#endif
#ifndef FLEET_BUG_LATE_ANSWER_ACCEPTED
#define FLEET_BUG_LATE_ANSWER_ACCEPTED 0
#endif
#ifndef FLEET_BUG_NO_TOKEN_DEDUP
#define FLEET_BUG_NO_TOKEN_DEDUP 0
#endif
#ifndef FLEET_BUG_EPOCH_NOT_CHECKED
#define FLEET_BUG_EPOCH_NOT_CHECKED 0
#endif
#ifndef FLEET_BUG_COMMIT_BEFORE_STORE
#define FLEET_BUG_COMMIT_BEFORE_STORE 0
#endif
#ifndef FLEET_BUG_REDO_AFTER_COMMIT
#define FLEET_BUG_REDO_AFTER_COMMIT 0
#endif
#ifndef FLEET_BUG_LOST_TOO_EARLY
#define FLEET_BUG_LOST_TOO_EARLY 0
#endif
#ifndef FLEET_BUG_CONDITION_IGNORED
#define FLEET_BUG_CONDITION_IGNORED 0
#endif

#ifndef FLEET_BUG_CARRIED_ITEM_STARTED
#define FLEET_BUG_CARRIED_ITEM_STARTED 0
#endif
#ifndef FLEET_BUG_CARRIED_NOT_FOLLOWED /* what comes after a carried task waits for ever */
#define FLEET_BUG_CARRIED_NOT_FOLLOWED 0
#endif
#ifndef FLEET_BUG_LEFT_OUT_STARTED
#define FLEET_BUG_LEFT_OUT_STARTED 0
#endif
#ifndef FLEET_BUG_RESTART_KEEPS_WHAT_FOLLOWS /* of a task that runs again */
#define FLEET_BUG_RESTART_KEEPS_WHAT_FOLLOWS 0
#endif

#ifndef FLEET_BUG_SKIPPED_NOT_PASSED /* what follows a task that was skipped by request is skipped too */
#define FLEET_BUG_SKIPPED_NOT_PASSED 0
#endif
#ifndef FLEET_BUG_RETRY_LEAVES_SKIPPED /* what was skipped because of its failure stays so */
#define FLEET_BUG_RETRY_LEAVES_SKIPPED 0
#endif
#ifndef FLEET_BUG_PAUSED_STARTS
#define FLEET_BUG_PAUSED_STARTS 0
#endif
#ifndef FLEET_BUG_PAUSED_BEGINS /* a run that is queued */
#define FLEET_BUG_PAUSED_BEGINS 0
#endif

#ifndef FLEET_BUG_FINAL_CANCELED /* a final task is skipped by the cancel of its run */
#define FLEET_BUG_FINAL_CANCELED 0
#endif
#ifndef FLEET_BUG_FINAL_EARLY /* it begins with the others */
#define FLEET_BUG_FINAL_EARLY 0
#endif
#ifndef FLEET_BUG_HANDLER_TWICE
#define FLEET_BUG_HANDLER_TWICE 0
#endif
#ifndef FLEET_BUG_HANDLER_NOT_AFTER_RECOVERY
#define FLEET_BUG_HANDLER_NOT_AFTER_RECOVERY 0
#endif

/* limits of runs */
#ifndef FLEET_BUG_QUEUE_RUNS_TWO /* more of one key than may run at a time */
#define FLEET_BUG_QUEUE_RUNS_TWO 0
#endif
#ifndef FLEET_BUG_QUEUE_STALLS /* the end of a run makes no room for those that are parked */
#define FLEET_BUG_QUEUE_STALLS 0
#endif
#ifndef FLEET_BUG_BEGINS_EARLY
#define FLEET_BUG_BEGINS_EARLY 0
#endif
#ifndef FLEET_BUG_REPLACED_GOES_ON
#define FLEET_BUG_REPLACED_GOES_ON 0
#endif
#ifndef FLEET_BUG_TIMEOUT_FORGOTTEN /* of a run, in a recovery */
#define FLEET_BUG_TIMEOUT_FORGOTTEN 0
#endif
#ifndef FLEET_BUG_TIMEOUT_FROM_RECOVERY /* it counts from there */
#define FLEET_BUG_TIMEOUT_FROM_RECOVERY 0
#endif
#ifndef FLEET_BUG_TIMED_OUT_CANCELED /* as if a session had asked for it */
#define FLEET_BUG_TIMED_OUT_CANCELED 0
#endif

/* named limits */
#ifndef FLEET_BUG_LIMIT_EXCEEDED_BY_RETRY
#define FLEET_BUG_LIMIT_EXCEEDED_BY_RETRY 0
#endif
#ifndef FLEET_BUG_LIMIT_FORGOTTEN_IN_RECOVERY /* what is attached holds no place */
#define FLEET_BUG_LIMIT_FORGOTTEN_IN_RECOVERY 0
#endif
#ifndef FLEET_BUG_LIMIT_STALLS /* a place that is given back calls nobody */
#define FLEET_BUG_LIMIT_STALLS 0
#endif
#ifndef FLEET_BUG_LIMIT_STARVES /* neither age nor a reservation */
#define FLEET_BUG_LIMIT_STARVES 0
#endif

#ifndef FLEET_BUG_SWEEP_OVERTAKEN /* what comes after a sweep is told before its end */
#define FLEET_BUG_SWEEP_OVERTAKEN 0
#endif

/* placement */
#ifndef FLEET_BUG_SLOT_COUNTED_TWICE /* a release frees two slots */
#define FLEET_BUG_SLOT_COUNTED_TWICE 0
#endif
#ifndef FLEET_BUG_DRAINING_GETS_WORK
#define FLEET_BUG_DRAINING_GETS_WORK 0
#endif
#ifndef FLEET_BUG_SHRUNK_SLOTS_IGNORED
#define FLEET_BUG_SHRUNK_SLOTS_IGNORED 0
#endif
#ifndef FLEET_BUG_STARVATION /* nobody is ever due */
#define FLEET_BUG_STARVATION 0
#endif

#endif
