package rules

import (
	"errors"
	"fmt"
	"strings"
)

// tableName reads table or schema.table. A part that holds a dot or a double quote is put in double quotes, as in SQL;
// unlike there, case is never folded.
func tableName(text string) (schema, table string, err error) {
	first, rest, err := identifier(text)
	if err != nil {
		return "", "", err
	}
	if rest == "" {
		return "", first, nil
	}
	table, rest, err = identifier(rest[1:])
	if err != nil {
		return "", "", err
	}
	if rest != "" {
		return "", "", errors.New("a table is written table or schema.table; put a name that holds a dot in double quotes")
	}
	return first, table, nil
}

// identifier reads a name up to the end or to a dot, which it leaves.
func identifier(s string) (name, rest string, err error) {
	if strings.HasPrefix(s, `"`) {
		name, rest, err = quotedIdentifier(s)
		if err == nil && rest != "" && rest[0] != '.' {
			err = fmt.Errorf("unexpected text %q after a closing double quote", rest)
		}
	} else {
		if i := strings.IndexByte(s, '.'); i >= 0 {
			name, rest = s[:i], s[i:]
		} else {
			name = s
		}
		if strings.Contains(name, `"`) {
			err = errors.New("a double quote within a name: put the name in double quotes and double those in it")
		}
	}
	switch {
	case err != nil:
	case strings.TrimSpace(name) == "":
		err = errors.New("a name is empty")
	case strings.TrimSpace(name) != name && s[0] != '"':
		err = fmt.Errorf("spaces around the name %q: put the name in double quotes if they belong to it", name)
	}
	return name, rest, err
}

// quotedIdentifier reads an SQL identifier in double quotes, in which a double quote is doubled.
func quotedIdentifier(s string) (name, rest string, err error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] != '"' {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == '"' {
			b.WriteByte('"')
			i++
			continue
		}
		return b.String(), s[i+1:], nil
	}
	return "", "", errors.New("the closing double quote is missing")
}
