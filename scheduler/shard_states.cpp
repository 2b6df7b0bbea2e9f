#include "scheduler/shard_states.hpp"

#include <algorithm>
#include <bit>
#include <span>
#include <utility>

namespace regroup {
namespace {

constexpr std::uint64_t kAll = ~std::uint64_t{0};

// Fewer words than this are not worth moving the others for.
constexpr std::size_t kDroppedMin = 16;

// What a piece is, in the low bits of the varint it begins with; the rest is how many.
constexpr int kKindBits = 3;
constexpr std::uint64_t kKindMask = (1U << kKindBits) - 1;
enum Kind : std::uint64_t {
  // 0 to 3: that many shards of this state
  kBothWords = 4,  // that many words of 64 shards, low and high
  kHighWords = 5,  // the same without low, which is clear: shards pending or done
};

constexpr std::size_t bytes_of_word(Kind kind) {
  return kind == kBothWords ? 16 : 8;
}

// A run within a word has at most 64 shards, so its varint takes 2 bytes at most: runs that would
// not be shorter than the word itself are not worth it.
constexpr std::size_t kRunBytesMax = 2;

// Bit i is set where shard i's state is not that of shard i - 1.
std::uint64_t changes_in(const StateWord& word, std::uint64_t used) {
  const std::uint64_t changes = (word.low ^ word.low << 1) | (word.high ^ word.high << 1);
  return changes & ~std::uint64_t{1} & kAll >> (StateWord::kShards - used);
}

// Joins pieces of one kind before it writes them.
class PieceWriter {
 public:
  PieceWriter(Writer& writer, std::span<const StateWord> words) : writer_(&writer), words_(words) {}

  void add_word(std::size_t index, std::uint64_t used) {
    const StateWord& word = words_[index];
    const std::uint64_t changes = changes_in(word, used);
    const Kind kind = word.low == 0 ? kHighWords : kBothWords;
    const auto runs = static_cast<std::size_t>(std::popcount(changes)) + 1;
    if (runs * kRunBytesMax <= bytes_of_word(kind)) {
      add_runs(word, changes, used);
    } else {
      append(kind, 1);
      word_end_ = index + 1;
    }
  }

  void add_run(ShardState state, std::uint64_t shards) {
    if (shards != 0) append(static_cast<std::uint64_t>(state), shards);
  }

  void finish() {
    if (count_ == 0) return;
    writer_->put_varint(count_ << kKindBits | kind_);
    if (kind_ >= kBothWords) {
      for (const StateWord& word : words_.subspan(word_end_ - count_, count_)) {
        if (kind_ == kBothWords) writer_->put(word.low);
        writer_->put(word.high);
      }
    }
    count_ = 0;
  }

 private:
  void add_runs(const StateWord& word, std::uint64_t changes, std::uint64_t used) {
    for (std::uint64_t from = 0; from < used;) {
      const std::uint64_t later = from == 63 ? 0 : changes & kAll << (from + 1);
      const auto next = later == 0 ? used : static_cast<std::uint64_t>(std::countr_zero(later));
      append((word.low >> from & 1) | (word.high >> from & 1) << 1, next - from);
      from = next;
    }
  }

  void append(std::uint64_t kind, std::uint64_t count) {
    if (kind != kind_) finish();
    kind_ = kind;
    count_ += count;
  }

  Writer* writer_;
  std::span<const StateWord> words_;
  std::uint64_t kind_ = 0;
  std::uint64_t count_ = 0;
  std::size_t word_end_ = 0;  // behind the last word of a piece of words
};

}  // namespace

void ShardStates::drop_done() {
  while (done_ < kept_.size() && kept_[done_] == kDoneWord) ++done_;
  if (done_ < kDroppedMin || done_ < kept_.size() / 2) return;
  kept_.erase(kept_.begin(), kept_.begin() + static_cast<std::ptrdiff_t>(done_));
  dropped_ += std::exchange(done_, 0);
}

void ShardStates::reopen() {
  std::vector<StateWord> all(last());
  for (std::size_t word = first(); word < last(); ++word) {
    all[word].low = at(word).low & ~at(word).high;
  }
  kept_ = std::move(all);
  dropped_ = done_ = 0;
}

void ShardStates::put(Writer& writer) const {
  const auto shards_before = [&](std::size_t word) {
    return std::min(shards_, word * StateWord::kShards);
  };
  PieceWriter pieces(writer, kept_);
  pieces.add_run(ShardState::kDone, shards_before(first() + done_));
  for (std::size_t word = first() + done_; word < last(); ++word) {
    pieces.add_word(word - first(), shards_before(word + 1) - shards_before(word));
  }
  pieces.add_run(ShardState::kPending, shards_ - shards_before(last()));
  pieces.finish();
}

bool ShardStates::get(Reader& reader) {
  kept_.clear();
  dropped_ = done_ = 0;
  for (std::uint64_t at = 0; at < shards_;) {
    const std::uint64_t head = reader.get_varint();
    const std::uint64_t kind = head & kKindMask;
    const std::uint64_t count = head >> kKindBits;
    if (count == 0) return false;  // also when the input has ended
    if (kind < kBothWords) {
      if (count > shards_ - at) return false;
      fill(at, count, kind);
      at += count;
      continue;
    }
    const std::size_t word = at / StateWord::kShards;
    if (kind > kHighWords || at % StateWord::kShards != 0 || count > words() - word) return false;
    if (!get_words(reader, kind == kBothWords, word, count)) return false;
    at = std::min(shards_, at + count * StateWord::kShards);
  }
  const std::uint64_t used = shards_ % StateWord::kShards;
  const StateWord end = words() == 0 ? StateWord{} : (*this)[words() - 1];
  return used == 0 || ((end.low | end.high) >> used) == 0;
}

// Over shards that are pending.
void ShardStates::fill(std::uint64_t first, std::uint64_t count, std::uint64_t state) {
  const std::uint64_t last = first + count;
  if (state == static_cast<std::uint64_t>(ShardState::kPending)) return;
  if (state == static_cast<std::uint64_t>(ShardState::kDone) && first == 0) {
    dropped_ = count / StateWord::kShards;
    first = dropped_ * StateWord::kShards;
  }
  keep_up_to(state_words(last));
  while (first != last) {
    StateWord& word = at(first / StateWord::kShards);
    const std::uint64_t bit = first % StateWord::kShards;
    const std::uint64_t here = std::min(last - first, StateWord::kShards - bit);
    const std::uint64_t mask = kAll >> (StateWord::kShards - here) << bit;
    if (state & 1) word.low |= mask;
    if (state & 2) word.high |= mask;
    first += here;
  }
}

bool ShardStates::get_words(Reader& reader, bool both, std::size_t word, std::size_t count) {
  Reader piece(reader.get_raw(count * bytes_of_word(both ? kBothWords : kHighWords)));
  if (reader.failed()) return false;
  keep_up_to(word + count);
  for (std::size_t end = word + count; word < end; ++word) {
    if (both) at(word).low = piece.get<std::uint64_t>();
    at(word).high = piece.get<std::uint64_t>();
  }
  return true;
}

}  // namespace regroup
