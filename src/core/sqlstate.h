/*
 * core/sqlstate.h
 *     Every SQLSTATE that C code stores, sends on or compares with.  No other
 *     file has one as a literal; lint holds that.  (What ereport() is given are
 *     PostgreSQL's own ERRCODE_… macros, which are numbers.)
 *
 * Names are PostgreSQL's, except for codes of our own.  doc/troubleshooting.md
 * says what they mean to users.
 */
#ifndef FLEET_SQLSTATE_H
#define FLEET_SQLSTATE_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* Our own.  src/sql/45_child.sql raises the first two. */
#define FLEET_SQLSTATE_EPOCH_ENDED "FE001"    /* the child has seen a later epoch of its parent */
#define FLEET_SQLSTATE_OTHER_PROTOCOL "FE002" /* parent and child do not speak the same */
#define FLEET_SQLSTATE_LACKS_DEFINITION                                                            \
    "FE003"                              /* the child lacks the document that a start names */
#define FLEET_SQLSTATE_BAD_QUERY "F0001" /* a for_each or a condition failed */

#define FLEET_SQLSTATE_SUCCESSFUL_COMPLETION "00000"
#define FLEET_SQLSTATE_WARNING "01000"
#define FLEET_SQLSTATE_CANNOT_CONNECT "08001" /* sqlclient_unable_to_establish_sqlconnection */
#define FLEET_SQLSTATE_CONNECTION_FAILURE "08006"
#define FLEET_SQLSTATE_TRANSACTION_RESOLUTION_UNKNOWN "08007"
#define FLEET_SQLSTATE_PROTOCOL_VIOLATION "08P01"
#define FLEET_SQLSTATE_FEATURE_NOT_SUPPORTED "0A000"
#define FLEET_SQLSTATE_CHARACTER_NOT_IN_REPERTOIRE "22021"
#define FLEET_SQLSTATE_INVALID_PARAMETER_VALUE "22023"
#define FLEET_SQLSTATE_UNTRANSLATABLE_CHARACTER "22P05"
#define FLEET_SQLSTATE_ACTIVE_SQL_TRANSACTION "25001"
#define FLEET_SQLSTATE_INVALID_SQL_STATEMENT_NAME "26000" /* no such prepared statement */
#define FLEET_SQLSTATE_INVALID_AUTHORIZATION "28000"
#define FLEET_SQLSTATE_INVALID_PASSWORD "28P01"
#define FLEET_SQLSTATE_INVALID_TRANSACTION_TERMINATION "2D000"
#define FLEET_SQLSTATE_PROHIBITED_SQL_STATEMENT "2F003"
#define FLEET_SQLSTATE_INVALID_SCHEMA_NAME "3F000"
#define FLEET_SQLSTATE_TRANSACTION_ROLLBACK "40000"
#define FLEET_SQLSTATE_INSUFFICIENT_PRIVILEGE "42501"
#define FLEET_SQLSTATE_UNDEFINED_OBJECT "42704"
#define FLEET_SQLSTATE_WRONG_OBJECT_TYPE "42809"
#define FLEET_SQLSTATE_UNDEFINED_FUNCTION "42883"
#define FLEET_SQLSTATE_UNDEFINED_TABLE "42P01"
#define FLEET_SQLSTATE_INSUFFICIENT_RESOURCES "53000"
#define FLEET_SQLSTATE_OUT_OF_MEMORY "53200"
#define FLEET_SQLSTATE_CONFIGURATION_LIMIT_EXCEEDED "53400"
#define FLEET_SQLSTATE_PROGRAM_LIMIT_EXCEEDED "54000"
#define FLEET_SQLSTATE_STATEMENT_TOO_COMPLEX "54001"
#define FLEET_SQLSTATE_NOT_IN_PREREQUISITE_STATE "55000"
#define FLEET_SQLSTATE_QUERY_CANCELED "57014"
#define FLEET_SQLSTATE_ADMIN_SHUTDOWN "57P01"
#define FLEET_SQLSTATE_CRASH_SHUTDOWN "57P02"
#define FLEET_SQLSTATE_CANNOT_CONNECT_NOW "57P03"
#define FLEET_SQLSTATE_RAISE_EXCEPTION "P0001"
#define FLEET_SQLSTATE_INTERNAL_ERROR "XX000"

/* Classes: the first two characters. */
#define FLEET_SQLCLASS_CONNECTION "08"
#define FLEET_SQLCLASS_FEATURE_NOT_SUPPORTED "0A"
#define FLEET_SQLCLASS_DATA "22"
#define FLEET_SQLCLASS_INTEGRITY_CONSTRAINT "23"
#define FLEET_SQLCLASS_AUTHORIZATION "28"
#define FLEET_SQLCLASS_INVALID_CATALOG_NAME "3D"
#define FLEET_SQLCLASS_TRANSACTION_ROLLBACK "40"
#define FLEET_SQLCLASS_SYNTAX_OR_ACCESS_RULE "42"
#define FLEET_SQLCLASS_INSUFFICIENT_RESOURCES "53"
#define FLEET_SQLCLASS_OBJECT_NOT_IN_PREREQUISITE_STATE "55"
#define FLEET_SQLCLASS_OPERATOR_INTERVENTION "57"
#define FLEET_SQLCLASS_SYSTEM_ERROR "58"
#define FLEET_SQLCLASS_INTERNAL_ERROR "XX"

/* False for NULL. */
static inline bool
fleet_sqlstate_is(const char *sqlstate, const char *code)
{
    return sqlstate != NULL && strcmp(sqlstate, code) == 0;
}

static inline bool
fleet_sqlstate_in(const char *sqlstate, const char *sqlclass)
{
    return sqlstate != NULL && strncmp(sqlstate, sqlclass, 2) == 0;
}

#endif
