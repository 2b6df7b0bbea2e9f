#include "runtime/host/fault_plan.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <span>

#include <fmt/format.h>

namespace regroup {
namespace {

using Checked = std::expected<void, std::string>;

struct ActionName {
  std::string_view name;
  FaultAction action;
};
constexpr ActionName kActions[] = {{"kill", FaultAction::kKill},
                                   {"stop", FaultAction::kStop},
                                   {"wedge", FaultAction::kWedge},
                                   {"slow", FaultAction::kSlow},
                                   {"duplicate-results", FaultAction::kDuplicateResults},
                                   {"late-results", FaultAction::kLateResults},
                                   {"disk-full", FaultAction::kDiskFull},
                                   {"disk-error", FaultAction::kDiskError},
                                   {"gpu-error", FaultAction::kGpuError},
                                   {"gpu-hang", FaultAction::kGpuHang}};

struct PointName {
  std::string_view name;
  FaultPoint point;
};
constexpr PointName kPoints[] = {
    {"start", FaultPoint::kStart},       {"end", FaultPoint::kEnd},
    {"election", FaultPoint::kElection}, {"agreement", FaultPoint::kAgreement},
    {"shrink", FaultPoint::kShrink},     {"part", FaultPoint::kPart},
    {"manifest", FaultPoint::kManifest}, {"seal", FaultPoint::kSeal},
    {"sealed", FaultPoint::kSealed}};

constexpr const char* kWho = "rank=N, all-but=N, coordinator or successor";
constexpr const char* kWhen =
    "after-shards=N, at=TIME (such as 2s or 250ms), at=start, at=end, at=election, at=agreement, "
    "at=shrink, at=part, at=manifest, at=seal or at=sealed";
constexpr const char* kWhenOfDisk = "after=N, the first checkpoint that the rank fails to write";
constexpr const char* kTimeWanted = "a time with its unit, such as 2s or 250ms";

std::string action_list() {
  std::string list;
  for (const ActionName& entry : kActions) {
    if (!list.empty()) list += &entry == std::end(kActions) - 1 ? " or " : ", ";
    list += entry.name;
  }
  return list;
}

bool strikes_once(FaultAction action) {
  return action == FaultAction::kKill || action == FaultAction::kStop ||
         action == FaultAction::kWedge;
}

bool breaks_disk(FaultAction action) {
  return action == FaultAction::kDiskFull || action == FaultAction::kDiskError;
}

bool breaks_device(FaultAction action) {
  return action == FaultAction::kGpuError || action == FaultAction::kGpuHang;
}

template <class Number>
std::optional<Number> number_in(std::string_view text) {
  Number number{};
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size()) return std::nullopt;
  return number;
}

// Positive and finite.
std::optional<double> amount_in(std::string_view text) {
  const auto number = number_in<double>(text);
  return number && std::isfinite(*number) && *number > 0 ? number : std::nullopt;
}

std::optional<Nanoseconds> time_in(std::string_view text) {
  Nanoseconds unit = 0;
  if (text.ends_with("ms")) {
    unit = kMillisecond;
    text.remove_suffix(2);
  } else if (text.ends_with("s")) {
    unit = kSecond;
    text.remove_suffix(1);
  }
  const auto number = amount_in(text);
  if (unit == 0 || !number) return std::nullopt;
  const double time = *number * static_cast<double>(unit);
  if (time < 1 || time > static_cast<double>(FaultPlan::kTimeMax)) return std::nullopt;
  return static_cast<Nanoseconds>(time);
}

// Parses one fault: "kill", then its words one by one, then what must not be missing.
class FaultParser {
 public:
  FaultParser(FaultAction action, std::string_view name, std::string text) : name_(name) {
    fault_.action = action;
    fault_.text = std::move(text);
    if (breaks_disk(action)) fault_.target = FaultTarget::kEvery;
  }

  Checked word(std::string_view word);
  std::expected<Fault, std::string> finish() const;

 private:
  Checked wrong(const std::string& what) const {
    return std::unexpected(fmt::format("'{}': {}", fault_.text, what));
  }
  Checked take_target(FaultTarget target, std::string_view key, std::string_view value);
  Checked take_point(std::string_view key, std::string_view value);
  Checked take_count(std::string_view key, std::string_view value, FaultPoint point,
                     std::uint64_t& count);
  Checked take_measure(std::string_view key, std::string_view value);
  bool may_float() const;
  std::string_view measure() const;
  std::string words_wanted() const;

  Fault fault_;
  std::string_view name_;
  bool has_target_ = false;
  bool has_point_ = false;
  bool has_measure_ = false;
};

// The one word, beside who and when, that this action takes; only a disk's or a device's may be
// left out.
std::string_view FaultParser::measure() const {
  switch (fault_.action) {
    case FaultAction::kStop:
    case FaultAction::kDiskFull:
    case FaultAction::kDiskError:
    case FaultAction::kGpuError:
    case FaultAction::kGpuHang:
      return "for";
    case FaultAction::kSlow:
      return "factor";
    case FaultAction::kLateResults:
      return "by";
    case FaultAction::kKill:
    case FaultAction::kWedge:
    case FaultAction::kDuplicateResults:
      break;
  }
  return "";
}

// Shards and checkpoints are counted by each rank for itself, and a rank's way of sending and its
// device do not change.
bool FaultParser::may_float() const {
  return fault_.point != FaultPoint::kAfterShards &&
         fault_.point != FaultPoint::kCheckpointWrites &&
         fault_.action != FaultAction::kDuplicateResults &&
         fault_.action != FaultAction::kLateResults && !breaks_device(fault_.action);
}

std::string FaultParser::words_wanted() const {
  if (breaks_disk(fault_.action))
    return fmt::format("{}; and, if wanted, rank=N or all-but=N, and for=TIME", kWhenOfDisk);
  std::string words = kWho;
  if (breaks_device(fault_.action)) return words + "; and, if wanted, for=TIME";
  if (strikes_once(fault_.action)) words += fmt::format("; when: {}", kWhen);
  if (measure() == "factor") words += "; and factor=X";
  if (measure() == "for" || measure() == "by") words += fmt::format("; and {}=TIME", measure());
  return words;
}

Checked FaultParser::word(std::string_view word) {
  const std::size_t equals = word.find('=');
  const std::string_view key = word.substr(0, equals);
  const std::string_view value =
      equals == std::string_view::npos ? std::string_view() : word.substr(equals + 1);
  if (word == "coordinator") return take_target(FaultTarget::kCoordinator, key, value);
  if (word == "successor") return take_target(FaultTarget::kSuccessor, key, value);
  if (equals != std::string_view::npos) {
    if (key == "rank") return take_target(FaultTarget::kRank, key, value);
    if (key == "all-but") return take_target(FaultTarget::kAllBut, key, value);
    if (breaks_disk(fault_.action)) {
      if (key == "after")
        return take_count(key, value, FaultPoint::kCheckpointWrites, fault_.writes);
    } else if (key == "after-shards" || key == "at") {
      return take_point(key, value);
    }
    if (!key.empty() && key == measure()) return take_measure(key, value);
  }
  return wrong(
      fmt::format("'{}' is nothing that {} takes; it takes {}", word, name_, words_wanted()));
}

Checked FaultParser::take_target(FaultTarget target, std::string_view key, std::string_view value) {
  if (has_target_) return wrong(fmt::format("says twice whom it strikes; name one of {}", kWho));
  has_target_ = true;
  fault_.target = target;
  if (fault_.is_floating()) return {};
  const auto number = number_in<std::uint32_t>(value);
  if (!number) return wrong(fmt::format("{}= takes the number of a rank, not '{}'", key, value));
  fault_.rank = RankId{*number};
  return {};
}

Checked FaultParser::take_point(std::string_view key, std::string_view value) {
  if (!strikes_once(fault_.action)) {
    return wrong(fmt::format("{} is there from start to end; leave out {}=", name_, key));
  }
  if (key == "after-shards") return take_count(key, value, FaultPoint::kAfterShards, fault_.shards);
  if (has_point_) return wrong(fmt::format("says twice when it strikes; give one of {}", kWhen));
  has_point_ = true;
  const auto named = std::ranges::find(kPoints, value, &PointName::name);
  if (named != std::end(kPoints)) {
    fault_.point = named->point;
    return {};
  }
  const auto time = time_in(value);
  if (!time) {
    return wrong(
        fmt::format("at= takes {}, or start, end, election, agreement, shrink, part, "
                    "manifest, seal or sealed, not '{}'",
                    kTimeWanted, value));
  }
  fault_.point = FaultPoint::kTime;
  fault_.time = *time;
  return {};
}

Checked FaultParser::take_count(std::string_view key, std::string_view value, FaultPoint point,
                                std::uint64_t& count) {
  if (has_point_) {
    return wrong(fmt::format("says twice when it strikes; give {}",
                             breaks_disk(fault_.action) ? std::string("after=N once")
                                                        : fmt::format("one of {}", kWhen)));
  }
  has_point_ = true;
  const auto number = number_in<std::uint64_t>(value);
  if (!number || *number == 0) {
    return wrong(fmt::format("{}= takes a whole number of 1 or more, not '{}'", key, value));
  }
  fault_.point = point;
  count = *number;
  return {};
}

Checked FaultParser::take_measure(std::string_view key, std::string_view value) {
  if (has_measure_) return wrong(fmt::format("{}= is given twice; give it once", key));
  has_measure_ = true;
  if (fault_.action == FaultAction::kSlow) {
    const auto factor = amount_in(value);
    if (!factor || *factor < 1 || *factor > FaultPlan::kFactorMax) {
      return wrong(fmt::format("factor= takes a number from 1 to {}, not '{}'",
                               FaultPlan::kFactorMax, value));
    }
    fault_.factor = *factor;
    return {};
  }
  const auto time = time_in(value);
  if (!time) return wrong(fmt::format("{}= takes {}, not '{}'", key, kTimeWanted, value));
  if (fault_.action == FaultAction::kLateResults && *time > FaultPlan::kLateMax) {
    return wrong(
        fmt::format("by= takes at most {}: a rank that waits twice as long for a message "
                    "gives up",
                    time_text(FaultPlan::kLateMax)));
  }
  fault_.duration = *time;
  return {};
}

std::expected<Fault, std::string> FaultParser::finish() const {
  const auto missing = [this](const std::string& what) {
    return std::unexpected(fmt::format("'{}': {}", fault_.text, what));
  };
  const bool of_disk = breaks_disk(fault_.action);
  if (!has_target_ && !of_disk) {
    return missing(fmt::format("does not say whom it strikes; add {}", kWho));
  }
  if ((strikes_once(fault_.action) || of_disk) && !has_point_) {
    return missing(
        fmt::format("does not say when it strikes; add {}", of_disk ? kWhenOfDisk : kWhen));
  }
  if (fault_.is_floating() && !may_float()) {
    return missing(fmt::format("{} is for a rank that is known; name it with rank=N or all-but=N",
                               fault_.point == FaultPoint::kAfterShards ? "after-shards=" : name_));
  }
  if (fault_.action == FaultAction::kWedge && fault_.point == FaultPoint::kEnd) {
    return missing("a rank that is about to leave calls MPI no more; wedge it at another time");
  }
  if (!measure().empty() && !has_measure_ && !of_disk && !breaks_device(fault_.action)) {
    return missing(
        fault_.action == FaultAction::kSlow
            ? std::string("does not say how slow; add factor=X, such as factor=10")
            : fmt::format("does not say for how long; add {0}=TIME, such as {0}=2s", measure()));
  }
  return fault_;
}

std::expected<FaultAction, std::string> action_named(std::string_view name) {
  const auto found = std::ranges::find(kActions, name, &ActionName::name);
  if (found != std::end(kActions)) return found->action;
  return std::unexpected(fmt::format("unknown fault '{}'; choose {}", name, action_list()));
}

// `words` are the words of one fault; the first has the action before its colon.
std::expected<Fault, std::string> parse_fault(std::span<const std::string_view> words) {
  const std::size_t colon = words.front().find(':');
  const std::string_view name = words.front().substr(0, colon);
  const auto action = action_named(name);
  if (!action) return std::unexpected(action.error());
  FaultParser parser(*action, name, fmt::format("{}", fmt::join(words, ",")));
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string_view word = i == 0 ? words[i].substr(colon + 1) : words[i];
    if (auto taken = parser.word(word); !taken) return std::unexpected(taken.error());
  }
  return parser.finish();
}

std::vector<std::string_view> split(std::string_view text) {
  std::vector<std::string_view> words;
  while (true) {
    const std::size_t comma = text.find(',');
    words.push_back(text.substr(0, comma));
    if (comma == std::string_view::npos) return words;
    text.remove_prefix(comma + 1);
  }
}

}  // namespace

bool FaultPlan::needs_run_directory() const {
  return std::ranges::any_of(
      faults, [](const Fault& fault) { return fault.is_floating() && fault.is_single(); });
}

std::expected<FaultPlan, std::string> parse_fault_plan(const std::vector<std::string>& texts) {
  FaultPlan plan;
  for (const std::string& text : texts) {
    const std::vector<std::string_view> words = split(text);
    if (words.front().find(':') == std::string_view::npos) {
      return std::unexpected(fmt::format(
          "'{}' does not begin with a fault and ':', such as kill:rank=2,at=2s; choose {}", text,
          action_list()));
    }
    for (std::size_t first = 0; first < words.size();) {
      std::size_t last = first + 1;
      while (last < words.size() && words[last].find(':') == std::string_view::npos) ++last;
      auto fault = parse_fault(std::span(words).subspan(first, last - first));
      if (!fault) return std::unexpected(fault.error());
      if (plan.faults.size() == FaultPlan::kFaultsMax) {
        return std::unexpected(
            fmt::format("more than {} faults; give fewer", FaultPlan::kFaultsMax));
      }
      plan.faults.push_back(std::move(*fault));
      first = last;
    }
  }
  return plan;
}

std::expected<void, std::string> check_ranks(const FaultPlan& plan, std::uint32_t ranks) {
  for (const Fault& fault : plan.faults) {
    if (fault.action == FaultAction::kWedge && ranks == 1) {
      return std::unexpected(fmt::format(
          "'{}': the only rank of a run is wedged in no call to others; start more", fault.text));
    }
    if (fault.is_floating() || fault.rank.value < ranks) continue;
    return std::unexpected(fmt::format("'{}': there is no rank {}; {}", fault.text,
                                       fault.rank.value,
                                       ranks == 1 ? std::string("the only one is rank 0")
                                                  : fmt::format("ranks are 0 to {}", ranks - 1)));
  }
  return {};
}

std::string time_text(Nanoseconds time) {
  if (time < kSecond) return fmt::format("{} ms", static_cast<double>(time) / kMillisecond);
  return fmt::format("{} s", static_cast<double>(time) / kSecond);
}

}  // namespace regroup
