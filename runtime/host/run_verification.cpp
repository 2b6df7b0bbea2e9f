#include "runtime/host/run_verification.hpp"

#include <algorithm>
#include <string_view>
#include <system_error>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "runtime/host/checkpoint_files.hpp"
#include "runtime/host/file_digest.hpp"
#include "runtime/host/png_wrapper.hpp"
#include "runtime/host/result_file_reader.hpp"

namespace regroup {
namespace {

// The rules of a status, by the state that it is in. `problems` gets a line for each one broken.
class StatusRules {
 public:
  StatusRules(const RunStatus& status, std::vector<std::string>& problems)
      : status_(status), problems_(problems) {}

  void check() {
    if (status_.shards_done > status_.shards_total)
      break_rule("more shards are done than there are");
    for (std::size_t i = 1; i < status_.members.size(); ++i)
      if (status_.members[i - 1] >= status_.members[i]) break_rule("members are not in rank order");
    if (status_.state == RunState::kDone)
      check_done();
    else if (status_.state == RunState::kFailed || status_.state == RunState::kInterrupted)
      check_not_done();
    else if (status_.exit)
      break_rule(fmt::format("it has exit status {}, but has not ended", *status_.exit));
  }

 private:
  void check_done() {
    if (status_.exit != 0 && status_.exit != 1)
      break_rule(fmt::format("it has {}, not 0 or 1", exit_text()));
    if (status_.shards_done != status_.shards_total)
      break_rule(
          fmt::format("{} of {} shards are done", status_.shards_done, status_.shards_total));
    // Not before: a map stage that begins anew has fewer done for a while, and as many given up.
    if (status_.quarantined > status_.shards_total)
      break_rule("more shards were given up than there are");
    if (status_.exit == 0 && status_.quarantined != 0)
      break_rule(fmt::format("it has exit status 0, but {} shards given up", status_.quarantined));
    if (status_.exit == 1 && status_.quarantined == 0)
      break_rule("it has exit status 1, but no shard given up");
    if (status_.exit == 1 && status_.message.empty()) break_rule("no message says why not all");
    if (status_.members.empty()) break_rule("it has no members");
    check_recoveries();
  }

  void check_not_done() {
    if (!status_.exit || *status_.exit == 0 || *status_.exit == 1)
      break_rule(fmt::format("it has {}", exit_text()));
    if (status_.message.empty()) break_rule("no message says why");
  }

  // I3. Of one that is done only: others may be written between two views.
  void check_recoveries() {
    std::uint64_t epoch = 0;
    for (const RecoveryStatus& recovery : status_.recoveries) {
      if (recovery.epoch <= epoch) break_rule("the epochs of its recoveries do not grow");
      epoch = recovery.epoch;
    }
    if (epoch > status_.epoch) break_rule("its epoch is before that of a recovery");
  }

  std::string exit_text() const {
    return status_.exit ? fmt::format("exit status {}", *status_.exit) : "no exit status";
  }
  void break_rule(const std::string& problem) {
    problems_.push_back(
        fmt::format("it says that the run is {}, but {}", run_state_name(status_.state), problem));
  }

  const RunStatus& status_;
  std::vector<std::string>& problems_;
};

std::string directory_of(CheckpointNumber checkpoint) {
  return fmt::format("{}/{}", checkpoint_files::kDirectory,
                     checkpoint_files::directory_name(checkpoint));
}

std::uint64_t datasets_of(const std::vector<ResultColumn>& columns) {
  std::uint64_t datasets = 0;
  for (const ResultColumn& column : columns) datasets += column.type == ColumnType::kText ? 2 : 1;
  return datasets;
}

// One directory being verified.
class Verifying {
 public:
  Verifying(const std::filesystem::path& directory, StatusFile file, FileSystem& file_system)
      : file_system_(file_system), status_text_(std::move(file.text)) {
    verification_.directory = directory;
    verification_.status = std::move(file.status);
    verification_.in_use = RunDirectory::is_held(directory);
  }

  RunVerification verify(const RunCheckpoints& checkpoints) {
    check_status();
    check_checkpoints(checkpoints);
    check_result();
    return std::move(verification_);
  }

 private:
  void check_status();
  void check_checkpoints(const RunCheckpoints& checkpoints);
  void check_checkpoint(const CheckpointStore& store, const CheckpointEntry& entry);
  void check_sealed(const CheckpointStore& store, const CheckpointEntry& entry);
  void check_result();
  void check_result_file(VerifiedPart& part);
  void check_result_content(VerifiedPart& part);
  void check_beside();
  void check_xdmf(const ResultFileReader& reader);
  void check_picture(const ResultFileReader& reader, std::size_t array);
  std::expected<void, std::string> compare_picture(const ResultFileReader& reader,
                                                   std::size_t array, VerifiedPart& part) const;

  void check_origin(const std::string& file, std::string_view job, std::uint64_t seed);
  void report(std::string file, std::string_view reason);
  void note(std::string text) { verification_.notes.push_back(std::move(text)); }
  // The problems since `problems_before` are the part's.
  void finish(VerifiedPart part, std::size_t problems_before);
  std::size_t problems() const { return verification_.problems.size(); }
  const RunStatus& status() const { return verification_.status; }

  FileSystem& file_system_;
  std::string status_text_;
  RunVerification verification_;
};

// A reason that begins with the whole path of a file in `file` is about that one; here a file is
// named once, from the directory on.
void Verifying::report(std::string file, std::string_view reason) {
  const std::string all = (verification_.directory / "").string();
  const auto end = reason.find(": ", all.size());
  if (reason.starts_with(all + file) && end != reason.npos) {
    file = reason.substr(all.size(), end - all.size());
    reason.remove_prefix(end + 2);
  }
  verification_.problems.push_back({std::move(file), std::string(reason)});
}

void Verifying::finish(VerifiedPart part, std::size_t problems_before) {
  part.problems = problems() - problems_before;
  verification_.parts.push_back(std::move(part));
}

// What a checkpoint or the result says of the run that wrote it.
void Verifying::check_origin(const std::string& file, std::string_view job, std::uint64_t seed) {
  if (job != status().job)
    report(file, fmt::format("it is of job '{}', not '{}'", job, status().job));
  if (status().seed && seed != *status().seed)
    report(file, fmt::format("it is of seed {}, not {}", seed, *status().seed));
}

void Verifying::check_status() {
  const std::string name(kStatusFileName);
  for (const std::string& problem : problems_with(status())) report(name, problem);
  const auto holds = status_hash_holds(status_text_);
  if (holds == false)
    report(name, "it is not what was written: the hash differs");
  else if (!holds && !status().run.empty())
    report(name, "it does not end with its hash");
  else if (!holds)
    note(name + " has no hash of itself: an older Regroup wrote it");
  finish({.name = name, .files = 1, .datasets = 0, .bytes = status_text_.size()}, 0);
}

// ---- Checkpoints ----

void Verifying::check_checkpoints(const RunCheckpoints& checkpoints) {
  if (!checkpoints.problem.empty())
    report(std::string(checkpoint_files::kDirectory), checkpoints.problem);
  if (checkpoints.entries.empty()) return;
  const CheckpointStore store(verification_.directory, status().run, file_system_);
  for (const CheckpointEntry& entry : checkpoints.entries) check_checkpoint(store, entry);
}

void Verifying::check_checkpoint(const CheckpointStore& store, const CheckpointEntry& entry) {
  const std::string name = directory_of(entry.checkpoint);
  if (entry.state == CheckpointState::kSealed) return check_sealed(store, entry);
  if (entry.state == CheckpointState::kUnfinished)
    return note(name + " is unfinished: it has no manifest, and does not count");
  const std::size_t before = problems();
  report(name, entry.reason);
  finish({.name = name}, before);
}

void Verifying::check_sealed(const CheckpointStore& store, const CheckpointEntry& entry) {
  const std::string name = directory_of(entry.checkpoint);
  const auto checkpoint = store.verify(entry.checkpoint);
  if (!checkpoint.valid()) {
    const auto again = store.open(entry.checkpoint);
    if (!again && again.error().state == CheckpointState::kUnfinished)
      return note(name + " was removed while it was verified");
  }
  const std::size_t before = problems();
  for (const CheckpointProblem& problem : checkpoint.problems)
    report(fmt::format("{}/{}", name, problem.file), problem.reason);
  const std::string manifest = fmt::format("{}/{}", name, checkpoint_files::kManifest);
  check_origin(manifest, entry.manifest->facts.job, entry.manifest->facts.seed);
  std::error_code ignored;
  const auto manifest_bytes =
      std::filesystem::file_size(verification_.directory / manifest, ignored);
  finish({.name = name,
          .files = checkpoint.files + 1,
          .datasets = checkpoint.pieces,
          .bytes = checkpoint.bytes + (ignored ? 0 : manifest_bytes)},
         before);
}

// ---- The result ----

void Verifying::check_result() {
  const std::string name(kResultFileName);
  const std::size_t before = problems();
  VerifiedPart part{.name = name};
  std::error_code error;
  const auto found = std::filesystem::symlink_status(verification_.directory / name, error);
  if (found.type() != std::filesystem::file_type::not_found)
    check_result_file(part);
  else if (status().state == RunState::kDone)
    report(name, "it is not there, though the run is done");
  else
    return;
  const bool right = problems() == before;
  finish(std::move(part), before);
  if (right) check_beside();
}

// HDF5 sees the bytes only once they are what was written, where that is known.
void Verifying::check_result_file(VerifiedPart& part) {
  const auto found = digest_of_file(verification_.directory / part.name, file_system_);
  if (!found) return report(part.name, found.error());
  part.files = 1;
  part.bytes = found->bytes;
  const auto& written = status().result;
  if (!written)
    note(fmt::format("{} has no hash of {}, only its datasets have", kStatusFileName, part.name));
  else if (found->bytes != written->bytes)
    return report(part.name, fmt::format("it has {} bytes, not {}", found->bytes, written->bytes));
  else if (found->hash != written->hash)
    return report(part.name, "it is not what was written: the hash differs");
  check_result_content(part);
}

void Verifying::check_result_content(VerifiedPart& part) {
  const auto reader = ResultFileReader::open(verification_.directory);
  if (!reader) return report(part.name, reader.error());
  part.datasets = datasets_of(reader->columns()) + reader->arrays().size();
  if (!status().result)
    if (const auto verified = reader->verify(); !verified) report(part.name, verified.error());
  const auto attribute = [&](std::string_view name) {
    const auto& all = reader->attributes();
    const auto found = std::ranges::find(all, name, &NamedValue::name);
    return found == all.end() ? nullptr : &found->value;
  };
  const auto* const job = attribute("job");
  const auto* const seed = attribute("seed");
  const auto* const job_text = job == nullptr ? nullptr : std::get_if<std::string>(job);
  const auto* const seed_number = seed == nullptr ? nullptr : std::get_if<std::uint64_t>(seed);
  if (job_text == nullptr || seed_number == nullptr)
    return report(part.name, "it does not say of which job and seed it is");
  check_origin(part.name, *job_text, *seed_number);
}

// ---- What lies beside it ----

// Of a result that is right.
void Verifying::check_beside() {
  const auto reader = ResultFileReader::open(verification_.directory);
  if (!reader) return report(std::string(kResultFileName), reader.error());
  for (std::size_t array = 0; array < reader->arrays().size(); ++array)
    if (reader->arrays()[array].is_picture) check_picture(*reader, array);
  if (!reader->xdmf_hash().empty()) check_xdmf(*reader);
}

void Verifying::check_xdmf(const ResultFileReader& reader) {
  VerifiedPart part{.name = std::string(kResultXdmfName)};
  const std::size_t before = problems();
  const auto found = digest_of_file(verification_.directory / part.name, file_system_);
  if (found) {
    part.files = 1;
    part.bytes = found->bytes;
  }
  if (!found)
    report(part.name, found.error());
  else if (found->hash != reader.xdmf_hash())
    report(part.name, "it is not what was written: the hash differs");
  finish(std::move(part), before);
}

void Verifying::check_picture(const ResultFileReader& reader, std::size_t array) {
  VerifiedPart part{.name = picture_file_name(reader.arrays()[array].name)};
  const std::size_t before = problems();
  std::error_code error;
  const auto found = std::filesystem::symlink_status(verification_.directory / part.name, error);
  if (found.type() == std::filesystem::file_type::not_found)
    report(part.name, "it is not there, though the result has that picture");
  else if (const auto same = compare_picture(reader, array, part); !same)
    report(part.name, same.error());
  finish(std::move(part), before);
}

// That the file shows what the array holds, and has nothing else in it.
std::expected<void, std::string> Verifying::compare_picture(const ResultFileReader& reader,
                                                            std::size_t array,
                                                            VerifiedPart& part) const {
  const auto& shape = reader.arrays()[array].shape;
  auto png = PngReader::open(verification_.directory / part.name, file_system_);
  if (!png) return std::unexpected(png.error());
  part.files = 1;
  part.bytes = png->file_bytes();
  const PngHeader& header = png->header();
  const std::uint64_t channels = shape.size() == 2 ? 1 : shape[2];
  if (header.height != shape[0] || header.width != shape[1] || header.channels != channels ||
      header.bits != 8)
    return std::unexpected("it has another size or other colours than the result's");
  std::vector<std::byte> expected;
  std::vector<std::uint8_t> row(header.row_bytes());
  for (std::uint32_t y = 0; y < header.height; ++y) {
    if (auto done = png->read_row(row); !done) return done;
    if (auto done = reader.read_array_row(array, y, expected); !done) return done;
    if (!std::ranges::equal(std::as_bytes(std::span(row)), expected))
      return std::unexpected(fmt::format("row {} is not what the result has", y));
  }
  return png->finish(PngReader::Ending::kStrict);
}

}  // namespace

std::expected<RunVerification, RunReadError> verify_run(const std::filesystem::path& directory,
                                                        FileSystem& file_system) {
  auto file = read_status_file(directory);
  if (!file) return std::unexpected(file.error());
  const auto checkpoints = list_checkpoints(directory, file->status, file_system);
  if (!checkpoints) return std::unexpected(checkpoints.error());
  return Verifying(directory, std::move(*file), file_system).verify(*checkpoints);
}

std::vector<std::string> problems_with(const RunStatus& status) {
  std::vector<std::string> problems;
  StatusRules(status, problems).check();
  return problems;
}

}  // namespace regroup
