#include "jobs/verification_report.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "jobs/help_text.hpp"
#include "jobs/terminal.hpp"
#include "jobs/text_fields.hpp"

namespace regroup {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kReasonBytesMax = 500;

VerifiedPart sum_of(const std::vector<VerifiedPart>& parts) {
  VerifiedPart sum;
  for (const VerifiedPart& part : parts) {
    sum.files += part.files;
    sum.datasets += part.datasets;
    sum.bytes += part.bytes;
    sum.problems += part.problems;
  }
  return sum;
}

std::string counts_of(const VerifiedPart& part) {
  std::string text = counted(part.files, "file");
  if (part.datasets != 0) text += ", " + counted(part.datasets, "dataset");
  return text + ", " + bytes_text(part.bytes);
}

std::string verdict_of(const RunVerification& verification) {
  if (verification.has_status_alone())
    return "nothing is to be verified yet: there is neither a sealed checkpoint nor a result";
  const std::size_t problems = verification.problems.size();
  return fmt::format("{} read: {}", counts_of(sum_of(verification.parts)),
                     problems == 0 ? "all is right" : counted(problems, "problem"));
}

Json counts_json(const VerifiedPart& part) {
  return {{"files", part.files}, {"datasets", part.datasets}, {"bytes", part.bytes}};
}

Json parts_json(const std::vector<VerifiedPart>& parts) {
  Json list = Json::array();
  for (const VerifiedPart& part : parts) {
    Json& object = list.emplace_back(Json{{"name", part.name}});
    object.update(counts_json(part));
    object["problems"] = part.problems;
  }
  return list;
}

}  // namespace

std::string verification_text(const RunVerification& verification, int columns) {
  std::string text;
  for (const VerifiedPart& part : verification.parts) {
    const std::string found = part.problems == 0 ? "right" : counted(part.problems, "problem");
    text +=
        wrapped(fmt::format("{}: {}: {}", part.name, counts_of(part), found), columns, 2) + "\n";
  }
  for (const std::string& note : verification.notes)
    text += wrapped("note: " + note, columns, 2) + "\n";
  if (verification.in_use == true)
    text += wrapped("note: a live run holds the directory; this is how it was a moment ago",
                    columns, 2) +
            "\n";
  for (const VerificationProblem& problem : verification.problems)
    text += fmt::format("problem: {}: {}\n", printable(problem.file, kReasonBytesMax),
                        printable(problem.reason, kReasonBytesMax));
  return text + wrapped(verdict_of(verification), columns, 2) + "\n";
}

std::string verification_json(const RunVerification& verification) {
  Json problems = Json::array();
  for (const VerificationProblem& problem : verification.problems)
    problems.push_back({{"file", problem.file}, {"reason", problem.reason}});
  Json object = {{"dir", verification.directory.string()},
                 {"job", verification.status.job},
                 {"state", run_state_name(verification.status.state)},
                 {"in_use", nullptr},
                 {"valid", verification.valid()}};
  if (verification.in_use) object["in_use"] = *verification.in_use;
  object.update(counts_json(sum_of(verification.parts)));
  object["parts"] = parts_json(verification.parts);
  object["notes"] = verification.notes;
  object["problems"] = std::move(problems);
  return object.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace regroup
