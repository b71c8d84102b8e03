package refresh

// The values of one Read are in memory together. About so much of them is asked for, as far as their sizes can be told; and
// where they turn out to be larger, no more than so much is taken.
const (
	roomPerRead = 8 << 20
	mostPerRead = 2 * roomPerRead
)

// room is what the values of one Read may take on one of so many connections, in bytes.
type room struct{ taken, share int64 }

func newRoom(conns int) *room { return &room{share: int64(roomPerRead / conns)} }

// take takes note of a value, and reports whether another may be taken.
func (r *room) take(bytes int) bool {
	r.taken += int64(bytes)
	return r.taken < r.share*mostPerRead/roomPerRead
}

// sizes are what a value of each query is expected to take at most, by the latest ones.
type sizes map[string]int64

// learn takes note of values that were read. What was larger before counts for some time.
func (s sizes) learn(requests []request) {
	largest := map[string]int64{}
	for _, q := range requests {
		if !q.value.Unread && q.value.Err == nil {
			largest[q.query] = max(largest[q.query], int64(len(q.value.Text)))
		}
	}
	for query, bytes := range largest {
		s[query] = max(bytes, s[query]*3/4)
	}
}

func leaveUnread(requests []request) {
	for _, q := range requests {
		q.value.Unread = true
	}
}

// fit returns those requests that are expected to fit into the room, but one at least if there must be one; the others
// stay unread.
func (s sizes) fit(requests []request, room *room, one bool) []request {
	expected := room.taken
	for i, q := range requests {
		expected += s[q.query]
		if expected > room.share && (i > 0 || !one) {
			leaveUnread(requests[i:])
			return requests[:i]
		}
	}
	return requests
}
