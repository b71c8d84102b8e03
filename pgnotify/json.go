package pgnotify

import (
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
	kind byte   // the first byte: " { [ t f n, and 0 for a number
	raw  string // for a string without its quotes
}

// space passes over white space and gives the next byte, or 0 at the end.
func (t *jsonText) space() byte {
	for ; t.i < len(t.s); t.i++ {
		switch c := t.s[t.i]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
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

// object calls member for each member, with the text at its value, which member must read.
func (t *jsonText) object(member func(name jsonValue) bool) bool {
	if !t.take('{') {
		return false
	}
	if t.take('}') {
		return true
	}
	for {
		if t.space() != '"' {
			return false
		}
		name, ok := t.value()
		if !ok || !t.take(':') || !member(name) {
			return false
		}
		if !t.take(',') {
			return t.take('}')
		}
	}
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
func (t *jsonText) value() (jsonValue, bool) {
	switch c := t.space(); c {
	case '"':
		start := t.i + 1
		ok := t.str()
		return jsonValue{c, t.s[start:max(start, t.i-1)]}, ok
	case '{', '[':
		start := t.i
		ok := t.nested()
		return jsonValue{c, t.s[start:t.i]}, ok
	case 't':
		return jsonValue{c, "true"}, t.word("true")
	case 'f':
		return jsonValue{c, "false"}, t.word("false")
	case 'n':
		return jsonValue{c, "null"}, t.word("null")
	default:
		start := t.i
		ok := t.number()
		return jsonValue{0, t.s[start:t.i]}, ok
	}
}

// nested passes over an object or an array, however deep.
func (t *jsonText) nested() bool {
	var room [32]byte
	open := room[:0] // the brackets that are open
	for {
		switch c := t.space(); c { // a value is due
		case '{', '[':
			t.i++
			open = append(open, c)
			if t.space() != closing(c) {
				if c == '{' && !t.name() {
					return false
				}
				continue
			}
		default:
			if _, ok := t.value(); !ok {
				return false
			}
		}
		for { // a value has ended
			c := open[len(open)-1]
			if t.take(',') {
				if c == '{' && !t.name() {
					return false
				}
				break
			}
			if !t.take(closing(c)) {
				return false
			}
			if open = open[:len(open)-1]; len(open) == 0 {
				return true
			}
		}
	}
}

// closing is the bracket that closes another; in ASCII it stands two after it.
func closing(open byte) byte { return open + 2 }

// name passes over a member's name and its colon.
func (t *jsonText) name() bool {
	return t.space() == '"' && t.str() && t.take(':')
}

func (t *jsonText) word(w string) bool {
	if !strings.HasPrefix(t.s[t.i:], w) {
		return false
	}
	t.i += len(w)
	return true
}

// str passes over a string, the next byte being its quote.
func (t *jsonText) str() bool {
	for i := t.i + 1; i < len(t.s); i++ {
		switch c := t.s[i]; {
		case c == '"':
			t.i = i + 1
			return true
		case c == '\\':
			i++
			if i == len(t.s) {
				return false
			}
			if t.s[i] == 'u' {
				if _, ok := hex4(t.s[i+1:]); !ok {
					return false
				}
				i += 4
			} else if strings.IndexByte(`"\/bfnrt`, t.s[i]) < 0 {
				return false
			}
		case c < ' ':
			return false
		}
	}
	return false
}

func (t *jsonText) number() bool {
	if t.i < len(t.s) && t.s[t.i] == '-' {
		t.i++
	}
	if t.i < len(t.s) && t.s[t.i] == '0' {
		t.i++
	} else if !t.digits() {
		return false
	}
	if t.i < len(t.s) && t.s[t.i] == '.' {
		t.i++
		if !t.digits() {
			return false
		}
	}
	if t.i < len(t.s) && t.s[t.i]|0x20 == 'e' {
		t.i++
		if t.i < len(t.s) && (t.s[t.i] == '+' || t.s[t.i] == '-') {
			t.i++
		}
		return t.digits()
	}
	return true
}

func (t *jsonText) digits() bool {
	start := t.i
	for t.i < len(t.s) && t.s[t.i]-'0' <= 9 {
		t.i++
	}
	return t.i > start
}

// text decodes a string's escapes. It is not ok for one that stands for no text, such as half of a surrogate pair.
func (v jsonValue) text() (text string, ok bool) {
	if strings.IndexByte(v.raw, '\\') < 0 {
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
