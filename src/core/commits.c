/*
 * core/commits.c
 *     A scanner of SQL's words, by the lexical rules of the server's scan.l:
 *     comments (nested), strings ('…', E'…', $tag$…$tag$), quoted names.
 */
#include "core/commits.h"

#include <ctype.h>
#include <string.h>

#define DEPTH_MAX 8 /* of DO blocks within DO blocks */

typedef enum Kind
{
    TOKEN_END,
    TOKEN_WORD,   /* a keyword or a name without quotes */
    TOKEN_QUOTED, /* a name in quotes */
    TOKEN_STRING,
    TOKEN_OTHER, /* one byte */
} Kind;

typedef struct Token
{
    Kind kind;
    const char *text; /* without its quotes */
    size_t length;
} Token;

typedef struct Scanner
{
    const char *at, *end;
} Scanner;

static bool
starts_name(char c)
{
    return isalpha((unsigned char) c) || c == '_' || (unsigned char) c >= 0x80;
}

static bool
in_name(char c)
{
    return starts_name(c) || isdigit((unsigned char) c) || c == '$';
}

static bool
sees(const Scanner *scanner, const char *what)
{
    size_t n = strlen(what);

    return (size_t) (scanner->end - scanner->at) >= n && memcmp(scanner->at, what, n) == 0;
}

static void
skip_block_comment(Scanner *scanner)
{
    int depth = 0;

    do
    {
        if (sees(scanner, "/*"))
        {
            depth++;
            scanner->at += 2;
        }
        else if (sees(scanner, "*/"))
        {
            depth--;
            scanner->at += 2;
        }
        else
            scanner->at++;
    } while (depth > 0 && scanner->at < scanner->end);
}

static void
skip_space(Scanner *scanner)
{
    while (scanner->at < scanner->end)
    {
        if (isspace((unsigned char) *scanner->at))
            scanner->at++;
        else if (sees(scanner, "--"))
        {
            while (scanner->at < scanner->end && *scanner->at != '\n' && *scanner->at != '\r')
                scanner->at++;
        }
        else if (sees(scanner, "/*"))
            skip_block_comment(scanner);
        else
            break;
    }
}

/* Up to the closing quote; a doubled one, and with escapes one behind a backslash, is none. */
static Token
quoted(Scanner *scanner, Kind kind, char quote, bool escapes)
{
    Token token = {.kind = kind, .text = ++scanner->at};

    while (scanner->at < scanner->end)
    {
        if (escapes && *scanner->at == '\\')
            scanner->at++;
        else if (*scanner->at == quote)
        {
            if (scanner->at + 1 == scanner->end || scanner->at[1] != quote)
                break;
            scanner->at++;
        }
        if (scanner->at < scanner->end)
            scanner->at++;
    }
    token.length = (size_t) (scanner->at - token.text);
    if (scanner->at < scanner->end)
        scanner->at++;
    return token;
}

/* $tag$…$tag$.  False: it only begins like one. */
static bool
dollar_quoted(Scanner *scanner, Token *token)
{
    const char *tag = scanner->at;
    const char *p = tag + 1;
    size_t n;

    if (p < scanner->end && starts_name(*p))
    {
        while (p < scanner->end && in_name(*p) && *p != '$')
            p++;
    }
    if (p == scanner->end || *p != '$')
        return false;
    n = (size_t) (++p - tag);
    *token = (Token){.kind = TOKEN_STRING, .text = p};
    for (; (size_t) (scanner->end - p) >= n; p++)
    {
        p = memchr(p, '$', (size_t) (scanner->end - p));
        if (p == NULL || (size_t) (scanner->end - p) < n)
            break;
        if (memcmp(p, tag, n) == 0)
        {
            token->length = (size_t) (p - token->text);
            scanner->at = p + n;
            return true;
        }
    }
    token->length = (size_t) (scanner->end - token->text);
    scanner->at = scanner->end;
    return true;
}

static Token
next(Scanner *scanner)
{
    Token token = {.kind = TOKEN_END};

    skip_space(scanner);
    token.text = scanner->at;
    if (scanner->at == scanner->end)
        return token;
    if (*scanner->at == '\'')
        return quoted(scanner, TOKEN_STRING, '\'', false);
    if (*scanner->at == '"')
        return quoted(scanner, TOKEN_QUOTED, '"', false);
    if (sees(scanner, "E'") || sees(scanner, "e'"))
    {
        scanner->at++;
        return quoted(scanner, TOKEN_STRING, '\'', true);
    }
    if (*scanner->at == '$' && dollar_quoted(scanner, &token))
        return token;
    token.kind = starts_name(*scanner->at) ? TOKEN_WORD : TOKEN_OTHER;
    scanner->at++;
    while (token.kind == TOKEN_WORD && scanner->at < scanner->end && in_name(*scanner->at))
        scanner->at++;
    token.length = (size_t) (scanner->at - token.text);
    return token;
}

static char
lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char) (c - 'A' + 'a') : c;
}

static bool
is_word(const Token *token, const char *word)
{
    size_t n = strlen(word);

    if (token->kind != TOKEN_WORD || token->length != n)
        return false;
    for (size_t i = 0; i < n; i++)
    {
        if (lower(token->text[i]) != word[i])
            return false;
    }
    return true;
}

static bool
is_any(const Token *token, const char *const *words)
{
    for (; *words != NULL; words++)
    {
        if (is_word(token, *words))
            return true;
    }
    return false;
}

static bool
is_byte(const Token *token, char c)
{
    return token->kind == TOKEN_OTHER && *token->text == c;
}

/* May a command begin after this? */
static bool
ends_what_was_before(const Token *token)
{
    static const char *const words[] = {"begin", "then", "else", "loop", NULL};

    return token->kind == TOKEN_END || is_byte(token, ';') || is_byte(token, '>') ||
           is_any(token, words);
}

/* After COMMIT or ROLLBACK.  ROLLBACK TO, ROLLBACK PREPARED are other commands. */
static bool
follows_commit(const Token *token)
{
    static const char *const words[] = {"work", "transaction", "and", NULL};

    return token->kind == TOKEN_END || is_byte(token, ';') || is_any(token, words);
}

/* The server cuts a long name to the bytes that it keeps; so is it here. */
static void
take_name(char *name, const Token *token)
{
    size_t n = 0;

    for (size_t i = 0; i < token->length && n < FLEET_NAME_MAX - 1; i++)
    {
        name[n++] = token->kind == TOKEN_WORD ? lower(token->text[i]) : token->text[i];
        if (token->kind == TOKEN_QUOTED && token->text[i] == '"')
            i++; /* it is doubled */
    }
    memset(name + n, 0, FLEET_NAME_MAX - n);
}

static bool
add_called(FleetCommits *found, const FleetCalled *called)
{
    for (int i = 0; i < found->ncalled; i++)
    {
        if (memcmp(&found->called[i], called, sizeof(*called)) == 0)
            return false;
    }
    if (found->ncalled == FLEET_CALLED_MAX)
        return false;
    found->called[found->ncalled++] = *called;
    return true;
}

/* [[database.]schema.]name, of which the last two count.  *token is what follows in the end. */
static bool
read_call(Scanner *scanner, Token *token, FleetCommits *found)
{
    FleetCalled called = {0};

    do
    {
        *token = next(scanner);
        if (token->kind != TOKEN_WORD && token->kind != TOKEN_QUOTED)
            return false;
        memcpy(called.schema, called.name, sizeof(called.schema));
        take_name(called.name, token);
        *token = next(scanner);
    } while (is_byte(token, '.'));
    return is_byte(token, '(') && add_called(found, &called);
}

static bool read_text(const char *text, size_t length, FleetCommits *found, int depth);

/* DO [LANGUAGE name] 'text' [LANGUAGE name]; anything else is ON CONFLICT DO, or a rule's. */
static bool
read_do(Scanner *scanner, Token *token, FleetCommits *found, int depth)
{
    *token = next(scanner);
    if (is_word(token, "language"))
    {
        (void) next(scanner);
        *token = next(scanner);
    }
    return token->kind == TOKEN_STRING && depth < DEPTH_MAX &&
           read_text(token->text, token->length, found, depth + 1);
}

/* Of PL/Perl and PL/Python, where it is a function. */
static bool
is_function_that_commits(Scanner *scanner, const Token *token)
{
    static const char *const perl[] = {"spi_commit", "spi_rollback", NULL};
    static const char *const python[] = {"commit", "rollback", NULL};
    Scanner ahead = *scanner;
    Token dot, what;

    if (is_any(token, perl))
        return true;
    if (!is_word(token, "plpy"))
        return false;
    dot = next(&ahead);
    what = next(&ahead);
    return is_byte(&dot, '.') && is_any(&what, python);
}

static bool
read_text(const char *text, size_t length, FleetCommits *found, int depth)
{
    static const char *const ends[] = {"commit", "rollback", NULL};
    Scanner scanner = {.at = text, .end = text + length};
    Token before = {.kind = TOKEN_END};
    Token token = next(&scanner);
    bool news = false;

    while (token.kind != TOKEN_END)
    {
        bool first = ends_what_was_before(&before);

        before = token;
        if (first && is_word(&token, "call"))
            news |= read_call(&scanner, &token, found);
        else if (is_word(&token, "do"))
            news |= read_do(&scanner, &token, found, depth);
        else if (is_function_that_commits(&scanner, &token))
        {
            found->commits = true;
            token = next(&scanner);
        }
        else
        {
            token = next(&scanner);
            if (first && is_any(&before, ends) && follows_commit(&token))
                found->commits = true;
        }
    }
    return news || found->commits;
}

bool
fleet_commits_read(const char *text, size_t length, FleetCommits *found)
{
    return read_text(text, length, found, 0);
}
