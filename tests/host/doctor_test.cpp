// What the doctor says of a machine, from facts made by hand; and one look at the machine at hand.
#include "runtime/host/doctor.hpp"

#include <filesystem>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/host/doctor_facts.hpp"
#include "tests/scratch_directory.hpp"

namespace regroup {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

using test::check_of;
using test::healthy;

TEST(Doctor, AHealthyNodeNeedsNothing) {
  const DoctorReport report = judge(healthy());

  EXPECT_TRUE(report.ready());
  for (const DoctorCheck& check : report.checks) {
    EXPECT_EQ(check.status, CheckStatus::kOk) << check.name << ": " << check.advice;
    EXPECT_FALSE(check.found.empty()) << check.name;
  }
}

TEST(Doctor, EveryShortcomingHasAdvice) {
  DoctorFacts facts;  // nothing found at all
  facts.node = std::unexpected(std::string("hwloc cannot start"));
  facts.directory = std::unexpected(std::string(".: gone"));
  facts.shared_memory = std::unexpected(std::string("/dev/shm: gone"));

  const DoctorReport report = judge(facts);

  EXPECT_FALSE(report.ready());
  for (const DoctorCheck& check : report.checks) {
    EXPECT_TRUE(check.status == CheckStatus::kOk || !check.advice.empty()) << check.name;
  }
}

TEST(Doctor, AKernelWithoutDeathNoticesIsWarnedOf) {
  DoctorFacts facts = healthy();
  facts.notices_problem = "futex_waitv: Function not implemented";

  EXPECT_EQ(check_of(facts, "death notices").status, CheckStatus::kWarning);
  EXPECT_THAT(check_of(facts, "death notices").found, HasSubstr("futex_waitv"));
  EXPECT_TRUE(judge(facts).ready());
}

TEST(Doctor, MissingMpirunIsNamedAndNotReady) {
  DoctorFacts facts = healthy();
  facts.mpirun = std::nullopt;

  EXPECT_EQ(check_of(facts, "mpirun").status, CheckStatus::kMissing);
  EXPECT_THAT(check_of(facts, "mpirun").advice, HasSubstr("openmpi-bin"));
  EXPECT_FALSE(judge(facts).ready());
}

TEST(Doctor, MpirunOfAnotherVersionThanTheLibraryIsWarnedOf) {
  DoctorFacts facts = healthy();
  facts.mpirun->version_output = "mpirun (Open MPI) 5.0.7\n";

  EXPECT_EQ(check_of(facts, "mpirun").status, CheckStatus::kWarning);
  EXPECT_THAT(check_of(facts, "mpirun").advice, HasSubstr("4.1.4"));
}

TEST(Doctor, AnotherMpisMpirunIsWarnedOf) {
  DoctorFacts facts = healthy();
  facts.mpirun->version_output = "HYDRA build details:\n    Version: 4.0.2\n";

  EXPECT_EQ(check_of(facts, "mpirun").status, CheckStatus::kWarning);
}

TEST(Doctor, AnMpirunThatHangsIsTold) {
  DoctorFacts facts = healthy();
  facts.mpirun->version_output.clear();
  facts.mpirun->troubles = {"mpirun: no answer within 3000 ms; killed"};

  EXPECT_EQ(check_of(facts, "mpirun").status, CheckStatus::kWarning);
  EXPECT_THAT(check_of(facts, "mpirun").advice, HasSubstr("no answer"));
}

TEST(Doctor, RecoveryBackendFollowsTheMpi) {
  DoctorFacts stock = healthy();
  DoctorFacts ulfm = healthy();
  ulfm.libraries.mpi_has_ulfm = true;
  ulfm.mpirun->version_output = "mpirun (Open MPI) 5.0.7\n";
  ulfm.mpirun->info_output =
      "options:mpi_ext:affinity, cuda, ftmpi\noptions:ft_support:yes\noptions:ft_mpi_support:yes\n";
  DoctorFacts without = ulfm;
  without.mpirun->info_output = "options:ft_support:no\noptions:ft_mpi_support:no\n";
  DoctorFacts silent = ulfm;
  silent.mpirun->info_output = "";

  DoctorFacts chosen = ulfm;
  chosen.recovery = RecoveryChoice::kStock;
  DoctorFacts unmet = healthy();
  unmet.recovery = RecoveryChoice::kUlfm;
  DoctorFacts built_before = ulfm;
  built_before.libraries.mpi_has_ulfm = false;

  EXPECT_THAT(check_of(stock, "recovery").found, HasSubstr("own protocol"));
  EXPECT_THAT(check_of(stock, "recovery").found, HasSubstr("no ULFM"));
  EXPECT_EQ(check_of(stock, "recovery").status, CheckStatus::kOk);
  EXPECT_THAT(check_of(chosen, "recovery").found, HasSubstr("stock: own protocol, as chosen"));
  EXPECT_EQ(check_of(chosen, "recovery").status, CheckStatus::kOk);
  EXPECT_EQ(check_of(unmet, "recovery").status, CheckStatus::kMissing);
  EXPECT_THAT(check_of(unmet, "recovery").found, HasSubstr("refused"));
  EXPECT_THAT(check_of(ulfm, "recovery").found, HasSubstr("ulfm: native"));
  EXPECT_EQ(check_of(ulfm, "recovery").status, CheckStatus::kOk);
  EXPECT_THAT(check_of(without, "recovery").found, HasSubstr("own protocol"));
  EXPECT_EQ(check_of(without, "recovery").status, CheckStatus::kWarning);
  EXPECT_EQ(check_of(built_before, "recovery").status, CheckStatus::kWarning);
  EXPECT_THAT(check_of(silent, "recovery").found, HasSubstr("native"));
  EXPECT_EQ(check_of(silent, "recovery").status, CheckStatus::kOk);
}

TEST(Doctor, RootNeedsTheVariables) {
  DoctorFacts facts = healthy();
  facts.is_root = true;

  EXPECT_EQ(check_of(facts, "user").status, CheckStatus::kWarning);
  EXPECT_THAT(check_of(facts, "user").advice, HasSubstr("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"));
  facts.may_run_as_root = true;
  EXPECT_EQ(check_of(facts, "user").status, CheckStatus::kOk);
}

TEST(Doctor, RestrictedCpusAndQuotasAreWarnedOf) {
  DoctorFacts restricted = healthy();
  restricted.node = restrict_topology(*restricted.node, CpuList{0, 1, 2, 3});
  DoctorFacts quota = healthy();
  quota.node->cpu_quota = 2.0;

  EXPECT_EQ(check_of(restricted, "cpus").status, CheckStatus::kWarning);
  EXPECT_THAT(check_of(restricted, "cpus").found, HasSubstr("4 of 32 (cpus 0-3)"));
  EXPECT_EQ(check_of(quota, "cpus").status, CheckStatus::kWarning);
  EXPECT_THAT(check_of(quota, "cpus").found, HasSubstr("2.0 cpus"));
}

TEST(Doctor, CudaIsJudgedByBuildDriverAndDevices) {
  DoctorFacts idle_gpu = healthy();
  idle_gpu.nvidia_driver = "550.54.15";
  DoctorFacts no_gpu = healthy();
  no_gpu.built_with_cuda = true;
  no_gpu.devices.reason = "no CUDA device: no driver";
  DoctorFacts gpu = no_gpu;
  gpu.devices = {.devices = {CudaDevice{}}, .reason = {}};

  EXPECT_EQ(check_of(idle_gpu, "CUDA").status, CheckStatus::kWarning);
  EXPECT_THAT(check_of(idle_gpu, "CUDA").advice, HasSubstr("REGROUP_CUDA=ON"));
  EXPECT_EQ(check_of(no_gpu, "CUDA").status, CheckStatus::kMissing);
  EXPECT_THAT(check_of(no_gpu, "CUDA").found, HasSubstr("no driver"));
  EXPECT_TRUE(judge(no_gpu).ready()) << "a GPU is never needed";
  EXPECT_EQ(check_of(gpu, "CUDA").status, CheckStatus::kOk);
}

TEST(Doctor, SlurmIsOptionalOutsideAJob) {
  DoctorFacts facts = healthy();
  facts.slurm = {};

  EXPECT_EQ(check_of(facts, "Slurm").status, CheckStatus::kMissing);
  EXPECT_TRUE(judge(facts).ready());
  facts.slurm.job_id = "4711";
  EXPECT_EQ(check_of(facts, "Slurm").status, CheckStatus::kWarning);
}

TEST(Doctor, DirectoriesThatWillDisappointAreWarnedOf) {
  const auto status_with = [](std::uint64_t type, std::uint64_t bytes_free, bool writable) {
    DoctorFacts facts = healthy();
    facts.directory->type = type;
    facts.directory->bytes_free = bytes_free;
    facts.directory->writable = writable;
    return check_of(facts, "directory");
  };
  constexpr std::uint64_t kPlenty = 100ULL << 30;

  EXPECT_EQ(status_with(0xEF53, kPlenty, true).status, CheckStatus::kOk);
  EXPECT_THAT(status_with(0xEF53, kPlenty, true).advice, HasSubstr("shared"));
  EXPECT_EQ(status_with(0x6969, kPlenty, true).status, CheckStatus::kWarning);
  EXPECT_EQ(status_with(0x01021994, kPlenty, true).status, CheckStatus::kWarning);
  EXPECT_EQ(status_with(0xEF53, 1 << 20, true).status, CheckStatus::kWarning);
  EXPECT_EQ(status_with(0xEF53, kPlenty, false).status, CheckStatus::kWarning);
  EXPECT_THAT(status_with(0xFFFFFFFF9123683E, kPlenty, true).found, HasSubstr("btrfs"));
}

TEST(Doctor, FilesThatCannotBeLinkedOrLockedAreNoPlaceForARun) {
  DoctorFacts no_links = healthy();
  no_links.file_operations.link_problem = "Operation not permitted";
  DoctorFacts no_locks = healthy();
  no_locks.file_operations.lock_problem = "Function not implemented";
  DoctorFacts no_files = healthy();
  no_files.file_operations.create_problem = "No space left on device";

  for (const DoctorFacts& facts : {no_links, no_locks, no_files}) {
    EXPECT_EQ(check_of(facts, "file operations").status, CheckStatus::kMissing);
    EXPECT_FALSE(judge(facts).ready());
  }
  EXPECT_THAT(check_of(no_locks, "file operations").advice, HasSubstr("-o flock"));
  no_locks.directory->writable = false;
  EXPECT_FALSE(test::row_of(no_locks, "file operations")) << "nothing was tried there";
}

TEST(Doctor, LittleSharedMemoryAndFewOpenFilesAreWarnedOf) {
  DoctorFacts facts = healthy();
  facts.shared_memory->bytes_free = 64 << 20;
  facts.open_files.soft = 256;

  EXPECT_EQ(check_of(facts, "shared memory").status, CheckStatus::kWarning);
  EXPECT_EQ(check_of(facts, "open files").status, CheckStatus::kWarning);
  facts.open_files.soft = std::nullopt;
  EXPECT_EQ(check_of(facts, "open files").status, CheckStatus::kOk);
}

TEST(Doctor, AMemoryLimitBelowTheMachinesIsWarnedOf) {
  DoctorFacts facts = healthy();
  facts.control_group.memory_bytes = facts.memory_bytes;
  EXPECT_EQ(check_of(facts, "memory").status, CheckStatus::kOk);

  facts.control_group.memory_bytes = 2ULL << 30;

  EXPECT_EQ(check_of(facts, "memory").status, CheckStatus::kWarning);
  EXPECT_THAT(check_of(facts, "memory").found, HasSubstr("64.0 GiB, of which a cgroup allows 2.0"));
  EXPECT_THAT(check_of(facts, "memory").advice, HasSubstr("--mem=0"));
}

TEST(Doctor, TooFewProcessesForANodeFullOfRanksAreWarnedOf) {
  DoctorFacts user = healthy();  // 32 processing units
  user.processes.soft = 319;
  DoctorFacts group = healthy();
  group.control_group.tasks_left = 319;

  EXPECT_EQ(check_of(user, "processes").status, CheckStatus::kWarning);
  EXPECT_THAT(check_of(user, "processes").advice, HasSubstr("ulimit -u 320"));
  EXPECT_EQ(check_of(group, "processes").status, CheckStatus::kWarning);
  EXPECT_THAT(check_of(group, "processes").advice, HasSubstr("pids.max"));
  user.is_root = group.is_root = true;
  EXPECT_EQ(check_of(user, "processes").status, CheckStatus::kOk) << "root has no such limit";
  EXPECT_EQ(check_of(group, "processes").status, CheckStatus::kWarning);
  user.is_root = false;
  user.processes.soft = 320;
  EXPECT_EQ(check_of(user, "processes").status, CheckStatus::kOk);
}

TEST(Doctor, LockedMemoryMattersWhereThereIsRdma) {
  DoctorFacts facts = healthy();
  facts.locked_memory.soft = 8 << 20;
  EXPECT_EQ(check_of(facts, "locked memory").status, CheckStatus::kOk);

  facts.has_rdma = true;

  EXPECT_EQ(check_of(facts, "locked memory").status, CheckStatus::kWarning);
  EXPECT_THAT(check_of(facts, "locked memory").advice, HasSubstr("ulimit -l unlimited"));
  facts.locked_memory.soft = std::nullopt;
  EXPECT_EQ(check_of(facts, "locked memory").status, CheckStatus::kOk);
}

TEST(Doctor, TransportBetweenNodesIsUcxWithOpenMpi4) {
  DoctorFacts without = test::healthy_with_nodes(2);
  without.mpirun->info_output = "mca:pml:ob1:version:\"mca:2.1.0\"\n";
  DoctorFacts silent = healthy();
  silent.mpirun->info_output.clear();
  DoctorFacts five = without;
  five.mpirun->version_output = "mpirun (Open MPI) 5.0.7\n";

  EXPECT_EQ(check_of(healthy(), "transport").status, CheckStatus::kOk);
  EXPECT_THAT(check_of(healthy(), "transport").found, HasSubstr("survived in place"));
  EXPECT_EQ(check_of(without, "transport").status, CheckStatus::kMissing);
  EXPECT_THAT(check_of(without, "transport").advice, HasSubstr("--with-ucx"));
  EXPECT_FALSE(judge(without).ready());
  without.nodes.clear();
  EXPECT_TRUE(judge(without).ready()) << "one node needs none";
  EXPECT_EQ(check_of(silent, "transport").status, CheckStatus::kWarning);
  EXPECT_EQ(check_of(five, "transport").status, CheckStatus::kOk);
  EXPECT_THAT(check_of(five, "transport").found, HasSubstr("resume"));
}

TEST(Doctor, TextStaysWithinTheWidth) {
  DoctorFacts facts = healthy();
  facts.mpirun = std::nullopt;

  const std::string text = doctor_text(judge(facts), 80);

  EXPECT_THAT(text, HasSubstr("missing  mpirun             not on PATH\n"));
  EXPECT_THAT(text, HasSubstr("-> install openmpi-bin"));
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 80U) << line;
}

TEST(Doctor, JsonHasEveryCheck) {
  const DoctorReport report = judge(healthy());

  const nlohmann::ordered_json json = doctor_json(report);

  EXPECT_EQ(json["ready"], true);
  EXPECT_EQ(json["checks"].size(), report.checks.size());
  EXPECT_EQ(json["checks"][0]["name"], "MPI library");
  EXPECT_EQ(json["checks"][0]["status"], "ok");
}

TEST(Doctor, LooksAtThisMachineWithoutFailingOrLeavingAnything) {
  const test::ScratchDirectory scratch;
  DoctorRequest request;
  request.libraries = {.mpi = "Open MPI v4.1.4", .hdf5 = "1.10.8"};
  request.directory = (scratch.path() / "not/there/yet").string();

  const DoctorFacts facts = look_around(request);

  ASSERT_TRUE(facts.directory);
  EXPECT_EQ(facts.directory->path, scratch.path().string());
  EXPECT_EQ(facts.file_operations.create_problem, "");
  EXPECT_EQ(facts.file_operations.link_problem, "");
  EXPECT_EQ(facts.file_operations.lock_problem, "");
  EXPECT_TRUE(std::filesystem::is_empty(scratch.path()));
  EXPECT_GT(facts.memory_bytes, 0U);
  const DoctorReport report = judge(facts);
  EXPECT_GE(report.checks.size(), 18U);
  for (const DoctorCheck& check : report.checks) EXPECT_FALSE(check.found.empty()) << check.name;
}

TEST(Doctor, AFileIsNoDirectory) {
  DoctorRequest request;
  request.directory = "/proc/self/status/run";

  EXPECT_FALSE(look_around(request).directory);
}

}  // namespace
}  // namespace regroup
