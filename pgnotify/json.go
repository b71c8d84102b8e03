package pgnotify

import (
	"math/bits"
	"strings"
	"unicode/utf8"
)

// jsonText reads JSON from front to back, by RFC 8259, without building what it passes over: of a row only the columns
// that rules name are of interest, and encoding/json spends its time on all the others.
type jsonText struct {
	s string
	i int
}

// jsonValue is a value as it stands in the text.
type jsonValue struct {
	kind    byte   // the first byte: " { [ t f n, and 0 for a number
	escaped bool   // a string with escapes in it
	raw     string // for a string without its quotes
}

// space passes over white space and returns the next byte, or 0 at the end.
func (t *jsonText) space() byte {
	if t.i = blank(t.s, t.i); t.i < len(t.s) {
		return t.s[t.i]
	}
	return 0
}

// take passes over white space and the byte c, if that comes next.
func (t *jsonText) take(c byte) bool {
	if t.space() != c {
		return false
	}
	t.i++
	return true
}

// member goes to the first or the next member of an object, and reads its name and colon. Where there are no more, ok
// tells whether the object ended as it should.
func (t *jsonText) member(first bool) (name jsonValue, more, ok bool) {
	switch {
	case !first:
		if !t.take(',') {
			return name, false, t.take('}')
		}
	case !t.take('{'):
		return name, false, false
	case t.take('}'):
		return name, false, true
	}
	start := blank(t.s, t.i)
	if t.i, name.escaped, ok = skipString(t.s, start); !ok {
		return name, false, false
	}
	name.raw = t.s[start+1 : t.i-1]
	ok = t.take(':')
	return name, ok, ok
}

// array calls element for each element, with the text at it, which element must read.
func (t *jsonText) array(element func() bool) bool {
	if !t.take('[') {
		return false
	}
	if t.take(']') {
		return true
	}
	for {
		if !element() {
			return false
		}
		if !t.take(',') {
			return t.take(']')
		}
	}
}

// value reads one value of any kind.
func (t *jsonText) value() (v jsonValue, ok bool) {
	c := t.space()
	start := t.i
	if c == '"' {
		if t.i, v.escaped, ok = skipString(t.s, start); ok {
			v.kind, v.raw = c, t.s[start+1:t.i-1]
		}
		return v, ok
	}
	if t.i, ok = skip(t.s, start); ok {
		v.raw = t.s[start:t.i]
		if strings.IndexByte("{[tfn", c) >= 0 {
			v.kind = c
		}
	}
	return v, ok
}

// skip passes over one value of any kind, however deep. It and what it calls are most of the work on a row.
func skip(s string, i int) (end int, ok bool) {
	var room [32]byte
	open := room[:0] // the brackets that are open
	for {
		if i = blank(s, i); i == len(s) { // a value is due
			return i, false
		}
		switch c := s[i]; c {
		case '{', '[':
			open = append(open, c)
			if i = blank(s, i+1); i == len(s) || s[i] != closing(c) {
				if c == '{' {
					if i, ok = skipName(s, i); !ok {
						return i, false
					}
				}
				continue
			}
		case '"':
			if i, _, ok = skipString(s, i); !ok {
				return i, false
			}
		default:
			if i, ok = skipScalar(s, i); !ok {
				return i, false
			}
		}
		for more := false; !more; { // a value has ended
			if len(open) == 0 {
				return i, true
			}
			if i = blank(s, i); i == len(s) {
				return i, false
			}
			switch c := open[len(open)-1]; s[i] {
			case ',':
				i, more = i+1, true
				if c == '{' {
					if i, ok = skipName(s, blank(s, i)); !ok {
						return i, false
					}
				}
			case closing(c):
				i++
				open = open[:len(open)-1]
			default:
				return i, false
			}
		}
	}
}

// closing is the bracket that closes another; in ASCII it stands two after it.
func closing(open byte) byte { return open + 2 }

// blank passes over white space.
func blank(s string, i int) int {
	for i < len(s) && (s[i] == ' ' || s[i] == '\n' || s[i] == '\t' || s[i] == '\r') {
		i++
	}
	return i
}

// skipName passes over a member's name and its colon.
func skipName(s string, i int) (end int, ok bool) {
	if i, _, ok = skipString(s, i); !ok {
		return i, false
	}
	if i = blank(s, i); i == len(s) || s[i] != ':' {
		return i, false
	}
	return i + 1, true
}

// skipString passes over a string, and tells whether it has escapes. Eight bytes at once are searched for a quote, a
// backslash or a control character: x-ones sets the highest bit of a byte that was zero, and wrongly only behind one.
func skipString(s string, i int) (end int, escaped, ok bool) {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	if i >= len(s) || s[i] != '"' {
		return i, false, false
	}
	for i++; i < len(s); {
		for r := s[i:]; len(r) >= 8; r = r[8:] {
			x := uint64(r[0]) | uint64(r[1])<<8 | uint64(r[2])<<16 | uint64(r[3])<<24 |
				uint64(r[4])<<32 | uint64(r[5])<<40 | uint64(r[6])<<48 | uint64(r[7])<<56
			quote, backslash := x^ones*'"', x^ones*'\\'
			found := ((quote-ones)&^quote | (backslash-ones)&^backslash | (x-ones*' ')&^x) & highs
			if found != 0 {
				i += bits.TrailingZeros64(found) / 8
				break
			}
			i += 8
		}
		switch c := s[i:]; {
		case c == "":
			return i, escaped, false
		case c[0] == '"':
			return i + 1, escaped, true
		case c[0] == '\\':
			n := escape(c[1:])
			if n == 0 {
				return i, escaped, false
			}
			i += 1 + n
			escaped = true
		case c[0] < ' ':
			return i, escaped, false
		default:
			i++
		}
	}
	return i, escaped, false
}

// escape returns the length of an escape after its backslash, or 0.
func escape(s string) int {
	switch {
	case s == "":
		return 0
	case s[0] == 'u':
		if _, ok := hex4(s[1:]); ok {
			return 5
		}
		return 0
	case strings.IndexByte(`"\/bfnrt`, s[0]) >= 0:
		return 1
	}
	return 0
}

// skipScalar passes over a number, true, false or null.
func skipScalar(s string, i int) (end int, ok bool) {
	for _, word := range [...]string{"true", "false", "null"} {
		if s[i] == word[0] {
			return i + len(word), strings.HasPrefix(s[i:], word)
		}
	}
	if s[i] == '-' {
		i++
	}
	if i < len(s) && s[i] == '0' {
		i++
	} else if i, ok = skipDigits(s, i); !ok {
		return i, false
	}
	if i < len(s) && s[i] == '.' {
		if i, ok = skipDigits(s, i+1); !ok {
			return i, false
		}
	}
	if i < len(s) && s[i]|0x20 == 'e' {
		i++
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		return skipDigits(s, i)
	}
	return i, true
}

func skipDigits(s string, i int) (end int, ok bool) {
	start := i
	for i < len(s) && s[i]-'0' <= 9 {
		i++
	}
	return i, i > start
}

// text decodes a string's escapes. It is not ok for one that stands for no text, such as half of a surrogate pair.
func (v jsonValue) text() (text string, ok bool) {
	if !v.escaped {
		return v.raw, true
	}
	var b strings.Builder
	for rest := v.raw; rest != ""; {
		if rest[0] != '\\' {
			n := strings.IndexByte(rest, '\\')
			if n < 0 {
				n = len(rest)
			}
			b.WriteString(rest[:n])
			rest = rest[n:]
			continue
		}
		if rest[1] != 'u' {
			b.WriteByte(unescape[rest[1]])
			rest = rest[2:]
			continue
		}
		r, _ := hex4(rest[2:])
		rest = rest[6:]
		if 0xD800 <= r && r < 0xDC00 && strings.HasPrefix(rest, `\u`) {
			if low, _ := hex4(rest[2:]); 0xDC00 <= low && low < 0xE000 {
				r = 0x10000 + (r-0xD800)<<10 + (low - 0xDC00)
				rest = rest[6:]
			}
		}
		if !utf8.ValidRune(r) {
			return "", false
		}
		b.WriteRune(r)
	}
	return b.String(), true
}

var unescape = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// hex4 reads four hexadecimal digits.
func hex4(s string) (r rune, ok bool) {
	if len(s) < 4 {
		return 0, false
	}
	for i := range 4 {
		switch c := s[i]; {
		case '0' <= c && c <= '9':
			r = r<<4 + rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			r = r<<4 + rune(c|0x20-'a') + 10
		default:
			return 0, false
		}
	}
	return r, true
}
