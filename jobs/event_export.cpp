#include "jobs/event_export.hpp"

#include <algorithm>
#include <array>
#include <set>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "runtime/protocol/frame.hpp"

namespace regroup {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array<std::string_view, 4> kFormats = {"text", "jsonl", "shiviz", "perfetto"};
constexpr std::array<std::string_view, 5> kEvidence = {"is dead", "is silent", "is heard again",
                                                       "has left", "cannot be reached"};
constexpr std::array<std::string_view, 3> kRegained = {"its own snapshot", "a partner's copy",
                                                       "a checkpoint"};

std::string shards_text(const Event& event) {
  const std::string which = event.b == 1
                                ? fmt::format("shard {}", event.a)
                                : fmt::format("shards {} to {}", event.a, event.a + event.b - 1);
  return fmt::format("{} of stage {}", which, event.stage.value);
}

std::string_view message(const Event& event) {
  return name_of(MessageKind{static_cast<std::uint8_t>(event.b)});
}

template <std::size_t N>
std::string_view word(const std::array<std::string_view, N>& words, std::uint64_t number) {
  return number < N ? words[number] : "?";
}

double seconds(std::int64_t nanoseconds) {
  return static_cast<double>(nanoseconds) / static_cast<double>(kSecond);
}

double microseconds(std::int64_t nanoseconds) {
  return static_cast<double>(nanoseconds) / 1000;
}

// The first moment that any rank's clock knows of.
std::int64_t origin_of(const std::vector<SegmentHead>& heads) {
  const auto first = std::ranges::min_element(heads, {}, &SegmentHead::utc);
  return first == heads.end() ? 0 : first->utc;
}

class TextExport : public EventExport {
 public:
  explicit TextExport(std::int64_t origin) : origin_(origin) {}
  std::string add(const JournalEvent& event) override {
    return fmt::format("{:12.6f} s  rank {:<4} {:>8}  {}\n", seconds(event.utc - origin_),
                       event.event.rank.value, event.event.lamport, event_text(event.event));
  }

 private:
  std::int64_t origin_;
};

class JsonlExport : public EventExport {
 public:
  std::string add(const JournalEvent& timed) override {
    const Event& event = timed.event;
    Json object = {{"kind", name_of(event.kind)},
                   {"rank", event.rank.value},
                   {"peer", event.peer.value},
                   {"launch", timed.launch},
                   {"epoch", event.epoch.value},
                   {"lamport", event.lamport},
                   {"stage", event.stage.value},
                   {"a", event.a},
                   {"b", event.b},
                   {"utc_ns", timed.utc},
                   {"took_ns", event.took},
                   {"text", event_text(event)}};
    if (!event.vector.empty()) object["vector"] = event.vector;
    return object.dump() + "\n";
  }
};

// Two lines each, for the parser's expression (?<host>\S*) (?<clock>{.*})\n(?<event>.*) that ShiViz
// offers first. An entry counts a host's events, so each of them has to be there: of what a rank
// did that was lost with it nothing is said.
class ShivizExport : public EventExport {
 public:
  std::string add(const JournalEvent& timed) override {
    const Event& event = timed.event;
    if (event.vector.empty()) return "";
    told_.resize(std::max(told_.size(), event.vector.size()));
    const std::size_t self = event.rank.value;
    told_[self] = event.vector[self];
    Json clock = Json::object();
    for (std::size_t rank = 0; rank < event.vector.size(); ++rank) {
      const std::uint64_t entry = std::min(event.vector[rank], told_[rank]);
      if (entry != 0) clock[host(rank)] = entry;
    }
    return fmt::format("{} {}\n{}\n", host(self), clock.dump(), event_text(event));
  }

 private:
  static std::string host(std::size_t rank) { return fmt::format("rank{}", rank); }

  std::vector<std::uint64_t> told_;  // by rank, its own entry in its latest event
};

// The JSON of Chrome's trace events, which Perfetto's UI opens: a track a rank, slices for what it
// computes, instants for all else, arrows from sends to receives.
class PerfettoExport : public EventExport {
 public:
  PerfettoExport(const std::vector<SegmentHead>& heads, std::int64_t origin) : origin_(origin) {
    for (const SegmentHead& head : heads) ranks_.insert(head.rank.value);
  }

  std::string begin() override {
    std::string text = "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n";
    bool first = true;
    for (const std::uint32_t rank : ranks_) {
      const Json name = {{"ph", "M"},
                         {"name", "thread_name"},
                         {"pid", 0},
                         {"tid", rank},
                         {"args", {{"name", fmt::format("rank {}", rank)}}}};
      text += (first ? "" : ",\n") + name.dump();
      first = false;
    }
    return text;
  }

  std::string add(const JournalEvent& timed) override {
    const Event& event = timed.event;
    const double at = microseconds(timed.utc - origin_);
    Json object = {
        {"name", event_text(event)},
        {"cat", name_of(event.kind)},
        {"pid", 0},
        {"tid", event.rank.value},
        {"args",
         {{"lamport", event.lamport}, {"epoch", event.epoch.value}, {"launch", timed.launch}}}};
    const bool is_message = event.kind == EventKind::kSend || event.kind == EventKind::kReceive;
    if (event.kind == EventKind::kWork || is_message) {
      // An arrow begins and ends at a slice.
      object["ph"] = "X";
      object["ts"] = is_message ? at : at - microseconds(event.took);
      object["dur"] = is_message ? kMessageMicroseconds : microseconds(event.took);
    } else {
      object["ph"] = "i";
      object["s"] = "t";
      object["ts"] = at;
    }
    std::string text = ",\n" + object.dump();
    if (is_message) text += ",\n" + arrow(timed, at).dump();
    return text;
  }

  std::string end() override { return "\n]}\n"; }

 private:
  static constexpr double kMessageMicroseconds = 0.5;

  // A message goes by its sender, and the stamp that it was sent with.
  static Json arrow(const JournalEvent& timed, double at) {
    const Event& event = timed.event;
    const bool sends = event.kind == EventKind::kSend;
    const std::uint32_t from = sends ? event.rank.value : event.peer.value;
    const std::uint32_t to = sends ? event.peer.value : event.rank.value;
    const std::uint64_t stamp = sends ? event.lamport : event.a;
    Json object = {{"name", "message"},
                   {"cat", "message"},
                   {"ph", sends ? "s" : "f"},
                   {"id", fmt::format("{}-{}-{}-{}", timed.launch, from, to, stamp)},
                   {"pid", 0},
                   {"tid", event.rank.value},
                   {"ts", at}};
    if (!sends) object["bp"] = "e";
    return object;
  }

  std::int64_t origin_;
  std::set<std::uint32_t> ranks_;
};

}  // namespace

std::optional<EventFormat> event_format_named(std::string_view name) {
  const auto found = std::ranges::find(kFormats, name);
  if (found == kFormats.end()) return std::nullopt;
  return EventFormat{static_cast<std::uint8_t>(found - kFormats.begin())};
}

std::string event_text(const Event& event) {
  const std::uint32_t peer = event.peer.value;
  switch (event.kind) {
    case EventKind::kSend:
      return fmt::format("sends {} to rank {}", message(event), peer);
    case EventKind::kReceive:
      return fmt::format("receives {} from rank {}", message(event), peer);
    case EventKind::kLease:
      return fmt::format("leases {} to rank {}", shards_text(event), peer);
    case EventKind::kCommit:
      return "commits " + shards_text(event);
    case EventKind::kRetry:
      return fmt::format("will retry shard {} of stage {}, whose attempt {} failed on rank {}",
                         event.a, event.stage.value, event.b, peer);
    case EventKind::kQuarantine:
      return fmt::format("gives up shard {} of stage {} after attempt {} on rank {}", event.a,
                         event.stage.value, event.b, peer);
    case EventKind::kReturn:
      return fmt::format("takes back {} from rank {}", shards_text(event), peer);
    case EventKind::kRevoke:
      return fmt::format("revokes epoch {}", event.a);
    case EventKind::kView:
      return fmt::format("enters epoch {} of {} members under coordinator {}", event.a, event.b,
                         peer);
    case EventKind::kRound:
      return fmt::format("begins round {} of map stage {}", event.a, event.stage.value);
    case EventKind::kKeep:
      return fmt::format("keeps {}, which all partitions hold", shards_text(event));
    case EventKind::kElect:
      return fmt::format("goes on as coordinator from position {} of the ledger", event.a);
    case EventKind::kRestore:
      return fmt::format("goes on from checkpoint {}", event.a);
    case EventKind::kSeal:
      return fmt::format("seals checkpoint {}", event.a);
    case EventKind::kRegain:
      return fmt::format("regains partition {} of stage {} from {}", event.a, event.stage.value,
                         word(kRegained, event.b));
    case EventKind::kEvidence:
      return fmt::format("learns that rank {} {}", peer, word(kEvidence, event.a));
    case EventKind::kWork:
      return "computes " + shards_text(event);
  }
  return "?";
}

std::unique_ptr<EventExport> make_event_export(EventFormat format,
                                               const std::vector<SegmentHead>& heads) {
  const std::int64_t origin = origin_of(heads);
  switch (format) {
    case EventFormat::kText:
      return std::make_unique<TextExport>(origin);
    case EventFormat::kJsonl:
      return std::make_unique<JsonlExport>();
    case EventFormat::kShiviz:
      return std::make_unique<ShivizExport>();
    case EventFormat::kPerfetto:
      return std::make_unique<PerfettoExport>(heads, origin);
  }
  return nullptr;
}

}  // namespace regroup
