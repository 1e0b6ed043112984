/*
 * sim_bugs.h
 *     Planted bugs of the driver (those of the core are in core/bugs.h): a
 *     driver that breaks its part of the contract must be found too.
 */
#ifndef FLEET_SIM_BUGS_H
#define FLEET_SIM_BUGS_H

#ifndef FLEET_BUG_INTENT_AFTER_EFFECT /* sends first, commits then */
#define FLEET_BUG_INTENT_AFTER_EFFECT 0
#endif
#ifndef FLEET_BUG_RESULT_BEFORE_ACK_DROPPED /* a child forgets a result once it was sent */
#define FLEET_BUG_RESULT_BEFORE_ACK_DROPPED 0
#endif
#ifndef FLEET_BUG_XACT_STATUS_GUESSED /* another identity's xid is taken to be aborted */
#define FLEET_BUG_XACT_STATUS_GUESSED 0
#endif
#ifndef FLEET_BUG_XID_NOT_STORED /* says "stored" without having written */
#define FLEET_BUG_XID_NOT_STORED 0
#endif
#ifndef FLEET_BUG_CANCEL_ONCE /* a cancel is not sent again after a reconnect */
#define FLEET_BUG_CANCEL_ONCE 0
#endif
#ifndef FLEET_BUG_CUT_IS_FAILURE /* a cut connection is taken for a failed task */
#define FLEET_BUG_CUT_IS_FAILURE 0
#endif

#endif
