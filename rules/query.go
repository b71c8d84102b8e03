package rules

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// compileQuery turns {column} into $1, $2 and so on, each column one parameter, and refuses what is no query as far as
// that shows without a server. In quotes and comments everything is text; known tells the columns that nobody would put
// there to have their names in the text.
func compileQuery(text string, known func(column string) bool) (query string, columns []string, err error) {
	var b strings.Builder
	var before tokenKind // the kind of the token before
	var begun, ended bool
	depth := 0 // of parentheses
	for t, err := range tokens(text) {
		if err != nil {
			return "", nil, err
		}
		meaning := t.kind != blank && t.kind != comment
		switch {
		case meaning && ended:
			return "", nil, errors.New("a semicolon before the end: a refresh is one statement")
		case meaning && !begun && t.text != "(" && t.text != ";":
			if begun = slices.ContainsFunc([]string{"SELECT", "WITH", "VALUES", "TABLE"}, func(word string) bool {
				return strings.EqualFold(t.text, word)
			}); !begun {
				return "", nil, fmt.Errorf("it begins with %q: a refresh begins with SELECT, WITH, VALUES or TABLE", excerpt(t.text))
			}
		}
		switch {
		case t.kind == quoted, t.kind == comment:
			if column, ok := placeholderWithin(t.text, known); ok && t.kind == comment {
				return "", nil, fmt.Errorf("{%s} within a comment: it would be text, not a parameter", column)
			} else if ok {
				return "", nil, fmt.Errorf("{%s} within quotes: it would be text, not a parameter: write it without quotes", column)
			}
		case t.kind == parameter:
			return "", nil, fmt.Errorf("the parameter %s: write {column} with the name of the column that it is", t.text)
		case t.kind == placeholder && (before == word || before == placeholder), t.kind == word && before == placeholder:
			return "", nil, fmt.Errorf("no space before %q: a placeholder is a value of its own, never a part of a word", excerpt(t.text))
		case t.text == "(":
			depth++
		case t.text == ")":
			depth--
		case t.text == ";":
			ended = true
		}
		if depth < 0 {
			return "", nil, errors.New("unbalanced parentheses: a ) without its (")
		}
		before = t.kind
		if t.kind == placeholder {
			if !slices.Contains(columns, t.column) {
				columns = append(columns, t.column)
			}
			fmt.Fprintf(&b, "$%d", slices.Index(columns, t.column)+1)
		} else if !ended {
			b.WriteString(t.text)
		}
	}
	switch {
	case depth > 0:
		return "", nil, errors.New("unbalanced parentheses: a ( without its )")
	case !begun:
		return "", nil, errors.New("the query is empty")
	}
	return strings.Trim(b.String(), blanks), columns, nil
}

// placeholderWithin finds what looks like a placeholder of a known column in a text.
func placeholderWithin(text string, known func(string) bool) (column string, ok bool) {
	for i := range len(text) {
		if text[i] == '{' {
			if name, _, err := columnName(text[i+1:]); err == nil && known(name) {
				return name, true
			}
		}
	}
	return "", false
}

// token is a piece of SQL, as Postgres' lexer cuts it where that matters here.
type token struct {
	kind   tokenKind
	text   string
	column string // of a placeholder
}

type tokenKind uint8

const (
	symbol tokenKind = iota // one byte that is none of the others
	blank
	comment
	quoted // a string or an identifier in quotes of any kind, or a piece of one at which quotes are doubled
	word   // or a number
	parameter
	placeholder
)

const blanks = " \t\n\r\f\v"

// tokens cuts SQL; an error is the last that it yields.
func tokens(sql string) iter.Seq2[token, error] {
	return func(yield func(token, error) bool) {
		escapes := false // a string that begins here has backslash escapes
		for sql != "" {
			t, err := firstToken(sql, escapes)
			if !yield(t, err) || err != nil {
				return
			}
			sql = sql[len(t.text):]
			if t.kind != blank && t.kind != comment && t.kind != quoted { // E'a' goes on with 'b' in the next line, and E'a''b' with 'b'
				escapes = t.kind == word && strings.EqualFold(t.text, "e") && strings.HasPrefix(sql, "'")
			}
		}
	}
}

func firstToken(sql string, escapes bool) (token, error) {
	switch c := sql[0]; {
	case c == 0:
		return token{}, errors.New("a zero byte, which no query can have")
	case strings.IndexByte(blanks, c) >= 0:
		return token{kind: blank, text: leading(sql, func(c byte) bool { return strings.IndexByte(blanks, c) >= 0 })}, nil
	case strings.HasPrefix(sql, "--"):
		return token{kind: comment, text: leading(sql, func(c byte) bool { return c != '\n' && c != '\r' })}, nil
	case strings.HasPrefix(sql, "/*"):
		return blockComment(sql)
	case c == '\'':
		return quotation(sql, escapes)
	case c == '"':
		return quotation(sql, false)
	case c == '$':
		return dollar(sql)
	case c == '{':
		column, rest, err := columnName(sql[1:])
		if err == nil {
			return token{placeholder, sql[:len(sql)-len(rest)], column}, nil
		}
		fallthrough
	case c == '}':
		return token{}, fmt.Errorf("unbalanced braces: outside quotes they are for placeholders such as {id}, and %q is none", excerpt(sql))
	case isDigit(c):
		return token{kind: word, text: leading(sql, isDigit)}, nil
	case isLetter(c):
		return token{kind: word, text: leading(sql, func(c byte) bool { return isLetter(c) || isDigit(c) || c == '$' })}, nil
	default:
		return token{kind: symbol, text: sql[:1]}, nil
	}
}

// quotation reads up to the next quote of the kind with which it begins.
func quotation(sql string, escapes bool) (token, error) {
	for i := 1; i < len(sql); i++ {
		switch {
		case sql[i] == sql[0]:
			return token{kind: quoted, text: sql[:i+1]}, nil
		case escapes && sql[i] == '\\':
			i++
		}
	}
	return token{}, fmt.Errorf("the closing quote of %s is missing", excerpt(sql))
}

// blockComment reads a comment, in which others may be nested.
func blockComment(sql string) (token, error) {
	depth := 0
	for i := 0; i+1 < len(sql); i++ {
		switch sql[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
		}
		if depth == 0 {
			return token{kind: comment, text: sql[:i+1]}, nil
		}
	}
	return token{}, fmt.Errorf("the closing */ of %q is missing", excerpt(sql))
}

// dollar reads a string in dollar quotes, or a parameter.
func dollar(sql string) (token, error) {
	if number := leading(sql[1:], isDigit); number != "" {
		return token{kind: parameter, text: sql[:1+len(number)]}, nil
	}
	quote := sql[:1+len(leading(sql[1:], func(c byte) bool { return isLetter(c) || isDigit(c) }))]
	if !strings.HasPrefix(sql[len(quote):], "$") {
		return token{}, fmt.Errorf("%q: a $ outside quotes begins neither a parameter nor a string", excerpt(sql))
	}
	quote += "$"
	end := strings.Index(sql[len(quote):], quote)
	if end < 0 {
		return token{}, fmt.Errorf("the closing %s is missing", excerpt(quote))
	}
	return token{kind: quoted, text: sql[:len(quote)+end+len(quote)]}, nil
}

// leading returns the bytes at the beginning that are of a kind.
func leading(s string, is func(byte) bool) string {
	for i := range len(s) {
		if !is(s[i]) {
			return s[:i]
		}
	}
	return s
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// isLetter reports whether a word can begin with a byte. Postgres takes all that is not ASCII for letters.
func isLetter(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' || c >= 0x80
}

// excerpt shortens SQL to what fits into a problem's one line.
func excerpt(sql string) string {
	const most = 30
	sql, _, _ = strings.Cut(sql, "\n")
	runes := []rune(sql)
	if len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return sql
}
