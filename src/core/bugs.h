/*
 * core/bugs.h
 *     Planted bugs, one build flag each, all off in any build that is not the
 *     test of the tests (make test-core-bugs).  The simulator must find each.
 */
#ifndef FLEET_CORE_BUGS_H
#define FLEET_CORE_BUGS_H

/* core-engine and core-sim add here:  #ifndef FLEET_BUG_X / #define FLEET_BUG_X 0 / #endif */

#endif
