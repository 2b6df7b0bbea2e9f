#include "jobs/progress_display.hpp"

#include <algorithm>
#include <cstdio>

#include <fmt/format.h>

namespace regroup {
namespace {

constexpr double kSecondsMax = 1e12;  // longer is shown as this
constexpr int kBarCellsMin = 10;
constexpr int kBarCellsMax = 40;

// 1234567 as "1.23M".
std::string short_number(double value) {
  constexpr const char* kUnits[] = {"", "k", "M", "G", "T"};
  std::size_t unit = 0;
  while (value >= 999.5 && unit + 1 < std::size(kUnits)) {
    value /= 1000;
    ++unit;
  }
  if (unit == 0) return fmt::format("{:.0f}", value);
  return fmt::format("{:.{}f}{}", value, value < 9.995 ? 2 : value < 99.95 ? 1 : 0, kUnits[unit]);
}

std::string short_time(double seconds) {
  const auto whole = static_cast<std::uint64_t>(std::clamp(seconds + 0.5, 0.0, kSecondsMax));
  if (whole >= 86'400) return fmt::format("{}d{:02}h", whole / 86'400, whole / 3600 % 24);
  if (whole >= 3600) return fmt::format("{}h{:02}m", whole / 3600, whole / 60 % 60);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

const char* phase_name(RunPhase phase) {
  switch (phase) {
    case RunPhase::kOpening:
      return "opening";
    case RunPhase::kRunning:
      return "running";
    case RunPhase::kFinalizing:
      return "writing the result";
    case RunPhase::kClosing:
    case RunPhase::kOver:
      return "ending";
  }
  return "";
}

std::string bar(double fraction, int cells) {
  constexpr const char* kEighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const int eighths = static_cast<int>(fraction * cells * 8);
  std::string text;
  for (int i = 0; i < eighths / 8; ++i) text += "█";
  text += kEighths[eighths % 8];
  const int drawn = eighths / 8 + (eighths % 8 != 0 ? 1 : 0);
  return text + std::string(static_cast<std::size_t>(cells - drawn), ' ');
}

}  // namespace

std::string progress_text(const RunProgress& progress, double seconds, ProgressStyle style,
                          int columns) {
  // Steps are what goes on in a stage of cells: those are shards that are all done at its end.
  const bool in_steps = progress.step && progress.steps != 0;
  const double done = static_cast<double>(in_steps ? *progress.step : progress.done);
  const double all = static_cast<double>(in_steps ? progress.steps : progress.shards);
  const double fraction = all == 0 ? 0 : std::min(1.0, done / all);
  std::string tail = fmt::format(" {:3.0f}%  {}/{} {}", 100 * fraction, short_number(done),
                                 short_number(all), in_steps ? "steps" : "shards");
  if (progress.step && !in_steps) {
    tail += fmt::format("  step {}", short_number(static_cast<double>(*progress.step)));
  }
  if (progress.phase != RunPhase::kRunning) {
    tail += fmt::format("  {}", phase_name(progress.phase));
  } else if (seconds > 0 && done > 0) {
    const double rate = done / seconds;
    tail += fmt::format("  {}/s  {} left", short_number(rate), short_time((all - done) / rate));
  }
  if (progress.quarantined != 0) tail += fmt::format("  {} given up", progress.quarantined);
  const auto width = static_cast<std::size_t>(std::max(0, columns));
  if (style == ProgressStyle::kPlain) {
    return fmt::format("regroup: {}{}", short_time(seconds), tail).substr(0, width);
  }
  const int cells = std::min(kBarCellsMax, columns - static_cast<int>(tail.size()) - 3);
  if (cells < kBarCellsMin) return tail.substr(1, width == 0 ? 0 : width - 1);
  return fmt::format("│{}│{}", bar(fraction, cells), tail);
}

void ProgressDisplay::show(const RunProgress& progress, double seconds) {
  if (style_ == ProgressStyle::kNone || seconds < next_seconds_) return;
  const std::string text = progress_text(progress, seconds, style_, columns_);
  if (style_ == ProgressStyle::kBar) {
    next_seconds_ = seconds + kBarSeconds;
    std::fprintf(stderr, "\r\033[K%s", text.c_str());
    drawn_ = true;
  } else {
    if (next_seconds_ != 0) {
      std::fprintf(stderr, "%s\n", text.c_str());
      plain_pause_ = std::min(2 * plain_pause_, kPlainSecondsMax);
    }
    next_seconds_ = seconds + plain_pause_;
  }
  std::fflush(stderr);
}

void ProgressDisplay::finish() {
  if (drawn_) std::fputs("\r\033[K", stderr);
  std::fflush(stderr);
  drawn_ = false;
}

}  // namespace regroup
