// The verb `events`: what ranks have recorded of a run, in one order.
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <unistd.h>

#include "jobs/command_parser.hpp"
#include "jobs/event_export.hpp"
#include "jobs/help_text.hpp"
#include "jobs/run_command.hpp"
#include "jobs/terminal.hpp"

namespace regroup {
namespace {

constexpr std::size_t kTextBytes = std::size_t{1} << 20;  // written at a time

int fail(const RunReadError& error) {
  std::fprintf(stderr, "regroup: %s\n", error.message.c_str());
  return error.kind == RunReadError::Kind::kBadInput ? kExitBadInput : kExitNotRecovered;
}

// What the user wants to see of all events.
struct EventFilter {
  static constexpr std::int64_t kAny = -1;

  std::string kind;
  std::int64_t rank = kAny;
  std::int64_t shard = kAny;

  bool wants(const Event& event) const {
    if (!kind.empty() && name_of(event.kind) != kind) return false;
    if (rank != kAny && event.rank.value != static_cast<std::uint64_t>(rank)) return false;
    return shard == kAny || is_of_shard(event, static_cast<std::uint64_t>(shard));
  }

 private:
  static bool is_of_shard(const Event& event, std::uint64_t shard) {
    if (event.kind == EventKind::kRetry || event.kind == EventKind::kQuarantine)
      return event.a == shard;
    return level_of(event.kind) == EventLevel::kShards && shard >= event.a &&
           shard - event.a < event.b;
  }
};

// Whoever reads may go away early, as head(1) does: false then, and quietly.
class Printer {
 public:
  Printer() { std::signal(SIGPIPE, SIG_IGN); }

  bool print(const std::string& text) {
    text_ += text;
    return text_.size() < kTextBytes || flush();
  }
  bool flush() {
    const bool done = std::fwrite(text_.data(), 1, text_.size(), stdout) == text_.size() &&
                      std::fflush(stdout) == 0;
    if (!done) error_ = errno;
    text_.clear();
    return done;
  }
  // The run's exit status after that.
  int status() const {
    if (error_ == 0 || error_ == EPIPE) return kExitDone;
    std::fprintf(stderr, "regroup: cannot write the events: %s\n", errno_text(error_).c_str());
    return kExitNotRecovered;
  }

 private:
  std::string text_;
  int error_ = 0;
};

int print_events(EventReader& reader, EventFormat format, const EventFilter& filter) {
  const auto into = make_event_export(format, reader.heads());
  Printer printer;
  bool goes_on = printer.print(into->begin());
  while (goes_on) {
    const auto event = reader.next();
    if (!event) break;
    if (filter.wants(event->event)) goes_on = printer.print(into->add(*event));
  }
  if (goes_on && printer.print(into->end())) (void)printer.flush();
  return printer.status();
}

// "" where the format can show what was recorded.
std::string why_not(EventFormat format, const std::vector<SegmentHead>& heads) {
  if (format != EventFormat::kShiviz) return "";
  for (const SegmentHead& head : heads) {
    if (head.level != EventLevel::kMessages)
      return "ShiViz needs every message: it shows runs with --events messages";
    if (head.launch != heads.front().launch)
      return "ShiViz needs one set of clocks, and this run was launched several times";
  }
  return "";
}

}  // namespace

int events_command(const Invocation& invocation) {
  std::vector<std::string> directories;
  std::string format = "text";
  EventFilter filter;
  OptionSet set;
  set.inputs("DIR", directories, "the run directory").at_least(1).at_most(1);
  set.add("format", format, "how events are written")
      .one_of({"text", "jsonl", "shiviz", "perfetto"});
  set.add("rank", filter.rank, "events of this rank alone").at_least(0).value_name("R");
  set.add("kind", filter.kind, "events of this kind alone").value_name("KIND");
  set.add("shard", filter.shard, "events of this shard alone").at_least(0).value_name("S");
  CommandParser parser(invocation.program + " events",
                       "Prints what ranks have recorded of a run, causes before effects.");
  parser.add("Options", set);
  parser.examples(fmt::format(
      "{1}\n\nExamples:\n  {0} events my-run\n  {0} events my-run --shard 17\n"
      "  {0} events my-run --format perfetto > trace.json\n",
      invocation.program,
      wrapped("Text and jsonl have a line for each event; perfetto is for https://ui.perfetto.dev, "
              "shiviz for ShiViz. Runs record events with --events.",
              terminal_columns(STDOUT_FILENO))));
  const auto parsed = parser.parse(invocation.arguments);
  if (!parsed) return fail({RunReadError::Kind::kBadInput, parsed.error()});
  if (*parsed != CommandParser::Outcome::kRun) {
    std::fputs(parser.help(terminal_columns(STDOUT_FILENO)).c_str(), stdout);
    return kExitDone;
  }
  if (!filter.kind.empty() && !event_kind_named(filter.kind)) {
    return fail({RunReadError::Kind::kBadInput, "--kind: there is no kind '" + filter.kind + "'"});
  }
  auto reader = EventReader::open(directories.front());
  if (!reader) return fail(reader.error());
  const EventFormat chosen = *event_format_named(format);
  if (const std::string why = why_not(chosen, reader->heads()); !why.empty())
    return fail({RunReadError::Kind::kBadInput, why});
  return print_events(*reader, chosen, filter);
}

}  // namespace regroup
