"""The little of libpq that the benchmark needs, through ctypes: no package to install, and a call
costs microseconds.  ctypes gives the interpreter lock away while libpq waits, so threads work."""
import ctypes
import ctypes.util

_lib = ctypes.CDLL(ctypes.util.find_library("pq") or "libpq.so.5")
_P = ctypes.c_void_p
for _name, _result, _args in [
    ("PQconnectdb", _P, [ctypes.c_char_p]),
    ("PQstatus", ctypes.c_int, [_P]),
    ("PQerrorMessage", ctypes.c_char_p, [_P]),
    ("PQexec", _P, [_P, ctypes.c_char_p]),
    ("PQexecParams", _P, [_P, ctypes.c_char_p, ctypes.c_int, _P, ctypes.POINTER(ctypes.c_char_p), _P, _P, ctypes.c_int]),
    ("PQresultStatus", ctypes.c_int, [_P]),
    ("PQresultErrorMessage", ctypes.c_char_p, [_P]),
    ("PQntuples", ctypes.c_int, [_P]),
    ("PQnfields", ctypes.c_int, [_P]),
    ("PQgetisnull", ctypes.c_int, [_P, ctypes.c_int, ctypes.c_int]),
    ("PQgetvalue", ctypes.c_char_p, [_P, ctypes.c_int, ctypes.c_int]),
    ("PQclear", None, [_P]),
    ("PQfinish", None, [_P]),
]:
    _f = getattr(_lib, _name)
    _f.restype, _f.argtypes = _result, _args
_RECEIVER = ctypes.CFUNCTYPE(None, _P, _P)
_lib.PQsetNoticeReceiver.argtypes = [_P, _RECEIVER, _P]
_lib.PQsetNoticeReceiver.restype = _P
_quiet = _RECEIVER(lambda arg, result: None)


class PgError(Exception):
    pass


class Connection:
    """One session.  Not to be shared between threads."""

    def __init__(self, conninfo):
        self._conn = _lib.PQconnectdb(conninfo.encode())
        if _lib.PQstatus(self._conn) != 0:
            text = _lib.PQerrorMessage(self._conn).decode(errors="replace")
            self.close()
            raise PgError(text)
        _lib.PQsetNoticeReceiver(self._conn, _quiet, None)

    def execute(self, sql, *params):
        """Rows as a list of tuples of str or None."""
        if params:
            values = (ctypes.c_char_p * len(params))(
                *[None if p is None else str(p).encode() for p in params])
            result = _lib.PQexecParams(self._conn, sql.encode(), len(params), None, values, None, None, 0)
        else:
            result = _lib.PQexec(self._conn, sql.encode())
        try:
            status = _lib.PQresultStatus(result)
            if status == 2:  # PGRES_TUPLES_OK
                fields = range(_lib.PQnfields(result))
                return [tuple(None if _lib.PQgetisnull(result, row, f)
                              else _lib.PQgetvalue(result, row, f).decode() for f in fields)
                        for row in range(_lib.PQntuples(result))]
            if status not in (0, 1):
                raise PgError(_lib.PQresultErrorMessage(result).decode(errors="replace")
                              or _lib.PQerrorMessage(self._conn).decode(errors="replace"))
            return []
        finally:
            _lib.PQclear(result)

    def value(self, sql, *params):
        rows = self.execute(sql, *params)
        return rows[0][0] if rows else None

    def close(self):
        if self._conn:
            _lib.PQfinish(self._conn)
            self._conn = None
